"""A text in some of the languages, to check the reward with."""

from collections.abc import Mapping

SAMPLES: Mapping[str, str] = {
    "en": "First we add the tens, which makes thirty, and then the units, which makes twelve. The sum is forty-two.",
    "de": "Zuerst addieren wir die Zehner, das ergibt dreissig, danach die Einer. Die Summe ist also zweiundvierzig.",
    "fr": "On additionne d'abord les dizaines, ce qui fait trente, puis les unit\u00e9s. La somme est quarante-deux.",
    "es": "Primero sumamos las decenas, que dan treinta, y luego las unidades. La suma es cuarenta y dos.",
    "ru": "\u0421\u043d\u0430\u0447\u0430\u043b\u0430 \u0441\u043a\u043b\u0430\u0434\u044b\u0432\u0430\u0435\u043c "
    "\u0434\u0435\u0441\u044f\u0442\u043a\u0438, \u043f\u043e\u0442\u043e\u043c "
    "\u0435\u0434\u0438\u043d\u0438\u0446\u044b. \u0421\u0443\u043c\u043c\u0430 \u0440\u0430\u0432\u043d\u0430 "
    "\u0441\u043e\u0440\u043e\u043a\u0430 \u0434\u0432\u0443\u043c.",
    "zh": "\u5148\u628a\u5341\u4f4d\u6570\u76f8\u52a0\u5f97\u4e09\u5341\uff0c\u518d\u628a\u4e2a\u4f4d\u6570"
    "\u76f8\u52a0\u5f97\u5341\u4e8c\u3002\u548c\u662f\u56db\u5341\u4e8c\u3002",
    "ja": "\u307e\u305a\u5341\u306e\u4f4d\u3092\u8db3\u3057\u3066\u3001\u6b21\u306b\u4e00\u306e\u4f4d\u3092"
    "\u8db3\u3057\u307e\u3059\u3002\u7b54\u3048\u306f\u56db\u5341\u4e8c\u3067\u3059\u3002",
}
