"""How programs of each language are compiled and started, with what the user has installed."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tunesmith import ResourceError
from tunesmith.sandbox import Command, Limits, Program, Python

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Language:
    """A language.

    Attributes:
        marks: what blocks of code are marked with.
        tools: programs that will do, the preferred first.
        install: how to get one.
        file: what the program's text is called.
        compile: arguments of the tool that makes ``program``; empty where the tool runs the text.
        run: arguments of the tool that runs the text; empty where it is compiled.
        reserves: True where the language's runtime reserves far more memory than it uses.
        sample: a program that reads two whole numbers and prints their sum.
    """

    marks: tuple[str, ...]
    tools: tuple[str, ...]
    install: str
    file: str
    sample: str
    compile: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    reserves: bool = False


LANGUAGES = {
    "python": Language(("python", "py", "python3"), (), "", "main.py", "print(sum(map(int, input().split())))\n"),
    "c": Language(
        ("c",),
        ("gcc", "clang", "cc"),
        "apt-get install gcc",
        "main.c",
        '#include <stdio.h>\nint main(void) { long a, b; scanf("%ld %ld", &a, &b); printf("%ld\\n", a + b); }\n',
        compile=("-O2", "-std=gnu17", "-w", "-o", "program", "main.c", "-lm"),
    ),
    "c++": Language(
        ("c++", "cpp", "cxx", "cc"),
        ("g++", "clang++"),
        "apt-get install g++",
        "main.cpp",
        "#include <iostream>\nint main() { long a, b; std::cin >> a >> b; std::cout << a + b; }\n",
        compile=("-O2", "-std=gnu++20", "-w", "-o", "program", "main.cpp"),
    ),
    "rust": Language(
        ("rust", "rs"),
        ("rustc",),
        "install it from your distribution or with rustup",
        "main.rs",
        "use std::io::*;\nfn main() { let mut s = String::new(); stdin().read_to_string(&mut s).unwrap();\n"
        'println!("{}", s.split_whitespace().map(|n| n.parse::<i64>().unwrap()).sum::<i64>()); }\n',
        compile=("-O", "--edition=2021", "--cap-lints=allow", "-o", "program", "main.rs"),
        reserves=True,
    ),
    "go": Language(
        ("go", "golang"),
        ("go",),
        "apt-get install golang",
        "main.go",
        'package main\n\nimport "fmt"\n\nfunc main() {\n\tvar a, b int\n\tfmt.Scan(&a, &b)\n\tfmt.Println(a + b)\n}\n',
        compile=("build", "-o", "program", "main.go"),
        reserves=True,
    ),
    "java": Language(
        ("java",),
        ("java",),
        "apt-get install default-jdk-headless",
        "Main.java",
        "import java.util.*;\npublic class Main { public static void main(String[] args) {\n"
        "Scanner in = new Scanner(System.in); System.out.println(in.nextLong() + in.nextLong()); } }\n",
        run=("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xss64m", "-Xmx{half}m", "Main.java"),
        reserves=True,
    ),
    "javascript": Language(
        ("javascript", "js", "node"),
        ("node", "nodejs"),
        "apt-get install nodejs",
        "main.js",
        'const all = require("fs").readFileSync(0, "utf8").split(/\\s+/).filter(Boolean).map(Number);\n'
        "console.log(all.reduce((a, b) => a + b, 0));\n",
        run=("--max-old-space-size={half}", "main.js"),
        reserves=True,
    ),
}
PATHS = {"java": ("/etc/java*",), "go": ("/usr/share/go*",)}
"""What a language needs to read outside its own folder."""
ENVIRONMENT: dict[str, dict[str, str]] = {
    "go": {"GOCACHE": "/tmp/go", "GO111MODULE": "off", "CGO_ENABLED": "0"},
    "javascript": {"OPENSSL_CONF": "/dev/null"},  # it does not start where a configuration is there and closed
}
COMPILING = Limits(
    memory=2048 * MIB, address_space=0, processes=64, file_size=128 * MIB, scratch=512 * MIB, report=64 * MIB
)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A language with the tool that was found for it.

    Attributes:
        language: the language.
        tool: absolute path; empty where none is needed.
        readable: folders that the tool needs.
    """

    language: Language
    tool: str = ""
    readable: Sequence[str] = ()

    def compiler(self, source: str) -> Command | None:
        """What makes the program, or ``None`` where its text is run as it is."""
        if not self.language.compile:
            return None
        return Command(
            (self.tool, *self.language.compile),
            files={self.language.file: source.encode()},
            writable=True,
            collect="program",
            readable=self.readable,
            env=ENVIRONMENT.get(self.language.marks[0], {}),
        )

    def program(self, source: str, binary: bytes | None, memory: int) -> Program:
        """What is run for each test; ``memory`` in bytes."""
        if not self.tool:
            return Python(source)
        if binary is not None:
            return Command(("program",), binary=binary, readable=self.readable)
        args = [arg.format(half=memory // 2 // MIB) for arg in self.language.run]
        env = ENVIRONMENT.get(self.language.marks[0], {})
        return Command((self.tool, *args), files={self.language.file: source.encode()}, readable=self.readable, env=env)


@cache
def find(name: str) -> Toolchain:
    """The tool for a language. Raises `ResourceError` where none is installed."""
    language = LANGUAGES[name]
    if not language.tools:
        return Toolchain(language)
    path = next(filter(None, map(shutil.which, language.tools)), None)
    if path is None:
        raise ResourceError(
            f"programs in {name} need {' or '.join(language.tools)}, and none is installed", fix=language.install
        )
    tool, folders = os.path.realpath(path), []
    if name == "rust":  # rustc may be a switch between several
        home = _said(path, "--print", "sysroot")
        tool, folders = os.path.join(home, "bin", "rustc"), [home]
    elif name == "go":
        home = _said(path, "env", "GOROOT")
        tool, folders = os.path.join(home, "bin", "go"), [home]
    elif not tool.startswith("/usr/"):
        folders = [os.path.dirname(os.path.dirname(tool))]
    return Toolchain(language, tool, (*folders, *(p for pattern in PATHS.get(name, ()) for p in glob.glob(pattern))))


def _said(*command: str) -> str:
    """What a tool of the user's prints. Raises `ResourceError` where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ResourceError(f"{command[0]} does not work", why=str(error)) from None
    return os.path.realpath(done.stdout.strip())
