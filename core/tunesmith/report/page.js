"use strict";
(function () {
  // values under the pointer
  var tip = document.createElement("div");
  tip.id = "tip";
  document.body.appendChild(tip);
  var NS = "http://www.w3.org/2000/svg", LEFT = 46, RIGHT = 350;
  function short(v) {
    return Math.abs(v) >= 1e4 && Math.abs(v) < 1e9 ? Math.round(v).toLocaleString("en-US") : String(+v.toPrecision(4));
  }
  function nearest(xs, x) {
    var a = 0, b = xs.length - 1;
    while (b - a > 1) { var m = (a + b) >> 1; if (xs[m] < x) a = m; else b = m; }
    return Math.abs(xs[a] - x) <= Math.abs(xs[b] - x) ? a : b;
  }
  function read(svg) {
    return Array.prototype.map.call(svg.querySelectorAll("g.series"), function (g) {
      return { label: g.dataset.label, xs: (g.dataset.xs || "").split(" ").map(Number), ys: (g.dataset.ys || "").split(" ") };
    }).filter(function (s) { return s.ys[0] !== ""; });
  }
  Array.prototype.forEach.call(document.querySelectorAll("svg.chart"), function (svg) {
    var series = null, cursor = document.createElementNS(NS, "line");
    var log = svg.hasAttribute("data-log"), of = log ? Math.log : Number;
    var from = of(+svg.dataset.from), to = of(+svg.dataset.to);
    cursor.setAttribute("class", "cursor");
    function hide() { tip.style.display = "none"; cursor.remove(); }
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("pointermove", function (event) {
      series = series || read(svg);
      if (!series.length) return;
      var box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
      var place = (event.clientX - box.left) / box.width * view.width;
      if (place < LEFT - 8 || place > RIGHT + 8) return hide();
      var value = from + (place - LEFT) / (RIGHT - LEFT) * (to - from);
      if (log) value = Math.exp(value);
      var at = series[0].xs[nearest(series[0].xs, value)];
      var said = [svg.dataset.x + " " + short(at)];
      series.forEach(function (s) {
        var i = nearest(s.xs, at);
        said.push(s.label + "  " + short(+s.ys[i]) + (s.xs[i] === at ? "" : "  (" + svg.dataset.x + " " + short(s.xs[i]) + ")"));
      });
      var x = LEFT + (of(at) - from) / ((to - from) || 1) * (RIGHT - LEFT);
      cursor.setAttribute("x1", x); cursor.setAttribute("x2", x);
      cursor.setAttribute("y1", 12); cursor.setAttribute("y2", view.height - 34);
      svg.appendChild(cursor);
      tip.textContent = said.join("\n");
      tip.style.display = "block";
      var right = event.clientX + 14 + tip.offsetWidth > innerWidth;
      tip.style.left = Math.max(2, right ? event.clientX - 14 - tip.offsetWidth : event.clientX + 14) + "px";
      tip.style.top = Math.max(2, Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 4)) + "px";
    });
  });
  // tables with a filter: rows with the words and the choice stay, and the heads of their groups
  Array.prototype.forEach.call(document.querySelectorAll("[data-filters]"), function (bar) {
    var table = document.getElementById(bar.dataset.filters);
    var words = bar.querySelector("input"), choices = bar.querySelectorAll("select"), count = bar.querySelector("output");
    var rows = Array.prototype.slice.call(table.tBodies[0].rows);
    function apply() {
      var wanted = words.value.toLowerCase(), seen = 0, head = null, kept = false;
      rows.concat([null]).forEach(function (row) {
        if (!row || row.classList.contains("group")) {
          if (head) head.hidden = !kept;
          head = row; kept = false;
          return;
        }
        var text = (head ? head.textContent : "") + " " + row.textContent;
        var stays = text.toLowerCase().indexOf(wanted) >= 0;
        Array.prototype.forEach.call(choices, function (choice) {
          stays = stays && (!choice.value || row.getAttribute("data-" + choice.name) === choice.value);
        });
        row.hidden = !stays; kept = kept || stays; seen += stays;
      });
      count.textContent = seen + " shown";
    }
    bar.hidden = false;
    words.addEventListener("input", apply);
    Array.prototype.forEach.call(choices, function (choice) { choice.addEventListener("change", apply); });
    apply();
  });
})();
