"""Some of the library's verifiers evaluate the answer as Python. What could do harm never reaches them."""

from __future__ import annotations

import ast

MAX_CHARACTERS = 20_000
MAX_EXPRESSION = 1_000
MAX_EXPONENT = 100
MAX_POWERS = 2
"""Powers of powers."""
MAX_DIGITS = 30
MAX_DEPTH = 100

EVALUATED = {"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"}
"""Tasks that pass the answer to ``eval``, to read a list."""
CALCULATED = {
    "countdown",
    "intermediate_integration",
    "polynomial_multiplication",
    "puzzle24",
    "simple_integration",
}
"""Tasks that pass the answer to sympy's ``parse_expr``, which evaluates it as well."""
FUNCTIONS = {
    "sin",
    "cos",
    "tan",
    "sec",
    "csc",
    "cot",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "exp",
    "log",
    "ln",
}
FUNCTIONS |= {"asinh", "acosh", "atanh", "sqrt", "abs", "Abs", "erf"}
_LISTS = (ast.List, ast.Tuple, ast.Constant, ast.UnaryOp, ast.USub, ast.Name, ast.Load)
_EXPRESSIONS = (
    ast.BinOp, ast.UnaryOp, ast.Constant, ast.Name, ast.Load, ast.Call,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.USub, ast.UAdd,
)  # fmt: skip


def harmless(task: str, answer: str) -> bool:
    """True for an answer that the verifier of a task may see."""
    if len(answer) > MAX_CHARACTERS:
        return False
    if task in EVALUATED:
        tree = _tree(answer)
        # what is no Python is compared as text: eval only raises
        return tree is None or all(isinstance(node, _LISTS) for node in ast.walk(tree))
    if task in CALCULATED:
        tree = _tree(answer) if len(answer) <= MAX_EXPRESSION else None
        return tree is not None and _plain(tree)
    return True


def _tree(answer: str) -> ast.expr | None:
    try:
        return ast.parse(answer, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _plain(tree: ast.expr) -> bool:
    """True for plain arithmetic of moderate size; without recursion, because text can be nested deeply."""
    waiting = [(tree, 0, 0)]
    while waiting:
        node, powers, depth = waiting.pop()
        if not isinstance(node, _EXPRESSIONS) or depth > MAX_DEPTH:
            return False
        if isinstance(node, ast.Call) and not _known_call(node):
            return False
        if isinstance(node, ast.Constant) and not _small(node.value, 10**MAX_DIGITS):
            return False
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            powers += 1
            if powers > MAX_POWERS or not _small_exponent(node.right):
                return False
        waiting += [(child, powers, depth + 1) for child in ast.iter_child_nodes(node)]
    return True


def _known_call(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords


def _small(value: object, limit: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= limit


def _small_exponent(node: ast.expr) -> bool:
    """Even multiplied, its numbers are small."""
    product = 1.0
    for part in ast.walk(node):
        if isinstance(part, ast.Constant):
            if not _small(part.value, MAX_EXPONENT):
                return False
            product *= max(1.0, abs(part.value))
    return product <= MAX_EXPONENT
