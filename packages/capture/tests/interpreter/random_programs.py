"""Generates random small programs: tensors, containers, control flow, closures, exceptions, mutation, breaks."""

from __future__ import annotations

import random


class ProgramWriter:
    """Writes one function `program(x)` as source text. Tensor names hold 1-d tensors of 3 elements; `n` names ints."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lines: list[str] = []
        self.fresh = 0
        self.loops = 0

    def name(self, prefix: str) -> str:
        self.fresh += 1
        return f"{prefix}{self.fresh}"

    def pick(self, *options):
        return self.random.choice(options)

    # Expressions

    def number(self, scope) -> str:
        options = [str(self.random.randint(-3, 4)), *scope["ints"]]
        if scope["lists"]:
            options.append(f"len({self.random.choice(scope['lists'])})")
        if self.random.random() < 0.2:
            return f"({self.number(scope)} {self.pick('+', '-', '*')} {self.number(scope)})"
        if self.random.random() < 0.08:
            return f"(say({self.random.randint(0, 9)}) or {self.random.randint(1, 3)})"
        return self.random.choice(options)

    def tensor(self, scope, depth: int = 0) -> str:
        simple = self.random.choice(scope["tensors"])
        roll = self.random.random()
        if depth > 2 or roll < 0.25:
            return simple
        if roll < 0.6:
            left, right = self.tensor(scope, depth + 1), self.tensor(scope, depth + 1)
            return f"({left} {self.pick('+', '-', '*')} {self.pick(right, self.number(scope))})"
        if roll < 0.75:
            return f"torch.{self.pick('relu', 'neg', 'abs', 'clone', 'cos')}({self.tensor(scope, depth + 1)})"
        if roll < 0.85 and scope["functions"]:
            return f"{self.random.choice(scope['functions'])}({self.tensor(scope, depth + 1)})"
        if roll < 0.92 and scope["lists"]:
            chosen = self.random.choice(scope["lists"])
            return f"({chosen}[-1] if {chosen} else {simple})"
        return f"({self.tensor(scope, depth + 1)} if {self.condition(scope)} else {simple})"

    def condition(self, scope) -> str:
        roll = self.random.random()
        if roll < 0.15:
            return f"{self.random.choice(scope['tensors'])}.sum() > {self.random.randint(-2, 5)}"
        if roll < 0.3 and scope["lists"]:
            return f"{self.random.choice(scope['lists'])}"
        return f"{self.number(scope)} {self.pick('<', '>', '==', '!=', '<=')} {self.number(scope)}"

    # Statements

    def block(self, scope, indent: int, length: int, depth: int, in_loop: bool = False) -> None:
        scope = {kind: list(names) for kind, names in scope.items()}
        before = len(self.lines)
        for _ in range(length):
            self.statement(scope, indent, depth, in_loop)
        if len(self.lines) == before:
            self.emit(indent, "pass")

    def emit(self, indent: int, text: str) -> None:
        self.lines.append("    " * indent + text)

    def statement(self, scope, indent: int, depth: int, in_loop: bool) -> None:
        simple = [self.assign, self.assign, self.mutate, self.in_place, self.say, self.integers, self.containers]
        nested = [self.branch, self.loop, self.attempt, self.manage, self.function, self.generator, self.comprehension]
        if in_loop:
            simple.append(self.leave)
        kind = self.random.choice(simple if depth >= 3 or self.random.random() < 0.55 else nested)
        kind(scope, indent, depth, in_loop)

    def assign(self, scope, indent, depth, in_loop):
        target = self.random.choice(scope["own"]) if scope["own"] and self.random.random() < 0.5 else self.name("t")
        self.emit(indent, f"{target} = {self.tensor(scope)}")
        for kind in ("tensors", "own"):
            if target not in scope[kind]:
                scope[kind].append(target)

    def integers(self, scope, indent, depth, in_loop):
        own = [n for n in scope["ints"] if n in scope["own_ints"]]
        if own and self.random.random() < 0.5:
            self.emit(indent, f"{self.random.choice(own)} {self.pick('+=', '-=')} {self.random.randint(1, 2)}")
            return
        target = self.name("n")
        self.emit(indent, f"{target} = {self.number(scope)}")
        scope["ints"].append(target)
        scope["own_ints"].append(target)

    def containers(self, scope, indent, depth, in_loop):
        target = self.name("l")
        if scope["lists"] and self.random.random() < 0.4:
            self.emit(indent, f"{target} = {self.random.choice(scope['lists'])}")
        else:
            items = ", ".join(self.tensor(scope, 2) for _ in range(self.random.randint(0, 2)))
            self.emit(indent, f"{target} = [{items}]")
        scope["lists"].append(target)

    def mutate(self, scope, indent, depth, in_loop):
        roll = self.random.random()
        if scope["lists"] and roll < 0.6:
            chosen = self.random.choice(scope["lists"])
            self.emit(indent, f"{chosen}.append({self.tensor(scope)})")
        elif roll < 0.8:
            self.emit(indent, f"state_log.append({self.number(scope)})")
        else:
            self.emit(indent, f"box.value = {self.tensor(scope)}")

    def in_place(self, scope, indent, depth, in_loop):
        if not scope["own"]:
            return
        chosen = self.random.choice(scope["own"])
        operator = self.pick("+=", "-=", "*=")
        if self.random.random() < 0.5:
            self.emit(indent, f"{chosen} {operator} {self.number(scope)}")
        else:
            self.emit(indent, f"{chosen} = {chosen}.clone()")
            self.emit(indent, f"{chosen}[{self.random.randint(0, 2)}] {operator} 1")

    def say(self, scope, indent, depth, in_loop):
        roll = self.random.random()
        if roll < 0.5:
            self.emit(indent, f"say({self.number(scope)})")
        elif roll < 0.7:
            self.emit(indent, "torch_break()")

    def leave(self, scope, indent, depth, in_loop):
        self.emit(indent, f"if {self.condition(scope)}:")
        self.emit(indent + 1, self.pick("break", "continue", f"return {self.tensor(scope)}, {self.number(scope)}"))

    def branch(self, scope, indent, depth, in_loop):
        self.emit(indent, f"if {self.condition(scope)}:")
        self.block(scope, indent + 1, self.random.randint(1, 3), depth + 1, in_loop)
        if self.random.random() < 0.5:
            self.emit(indent, "else:")
            self.block(scope, indent + 1, self.random.randint(1, 3), depth + 1, in_loop)

    def loop(self, scope, indent, depth, in_loop):
        if self.loops > 3:
            return
        self.loops += 1
        variable = self.name("i")
        inner = {kind: list(names) for kind, names in scope.items()}
        inner["ints"].append(variable)
        kind = self.pick("range", "list", "while")
        if kind == "range":
            self.emit(indent, f"for {variable} in range({self.random.randint(0, 3)}):")
        elif kind == "list":
            self.emit(indent, f"for {variable} in [1, 2, {self.number(scope)}]:")
        else:
            self.emit(indent, f"{variable} = 0")
            self.emit(indent, f"while {variable} < {self.random.randint(0, 3)}:")
            self.emit(indent + 1, f"{variable} += 1")
        self.block(inner, indent + 1, self.random.randint(1, 3), depth + 1, True)
        if self.random.random() < 0.3:
            self.emit(indent, "else:")
            self.block(scope, indent + 1, 1, depth + 1, in_loop)

    def attempt(self, scope, indent, depth, in_loop):
        self.emit(indent, "try:")
        self.block(scope, indent + 1, self.random.randint(1, 2), depth + 1, in_loop)
        if self.random.random() < 0.6:
            self.emit(indent + 1, f"if {self.condition(scope)}:")
            self.emit(indent + 2, f"raise {self.pick('ValueError', 'KeyError')}({self.number(scope)})")
        self.block(scope, indent + 1, 1, depth + 1, in_loop)
        handled = self.random.random() < 0.8
        if handled:
            self.emit(indent, f"except {self.pick('ValueError', 'Exception', '(KeyError, TypeError)')} as error:")
            self.emit(indent + 1, "state_log.append(type(error).__name__)")
            self.block(scope, indent + 1, 1, depth + 1, in_loop)
        if not handled or self.random.random() < 0.4:
            self.emit(indent, "finally:")
            self.emit(indent + 1, "state_log.append('finally')")
            self.block(scope, indent + 1, 1, depth + 1, False)

    def manage(self, scope, indent, depth, in_loop):
        manager = self.pick("torch.no_grad()", "Manager(state_log)", "scoped(state_log)", "Manager(state_log, True)")
        self.emit(indent, f"with {manager}:")
        self.block(scope, indent + 1, self.random.randint(1, 3), depth + 1, in_loop)

    def function(self, scope, indent, depth, in_loop):
        name, argument = self.name("f"), self.name("a")
        inner = {kind: list(names) for kind, names in scope.items()}
        inner["own"], inner["own_ints"] = [], []
        inner["tensors"].append(argument)
        self.emit(indent, f"def {name}({argument}, k={self.number(scope)}):")
        inner["ints"].append("k")
        if scope["own_ints"] and self.random.random() < 0.5:
            shared = self.random.choice(scope["own_ints"])
            self.emit(indent + 1, f"nonlocal {shared}")
            self.emit(indent + 1, f"{shared} += 1")
        self.block(inner, indent + 1, self.random.randint(1, 3), depth + 1, False)
        self.emit(indent + 1, f"return {self.tensor(inner)}")
        scope["functions"].append(name)

    def generator(self, scope, indent, depth, in_loop):
        name, target = self.name("g"), self.name("l")
        self.emit(indent, f"def {name}():")
        self.emit(indent + 1, f"for j in range({self.random.randint(0, 3)}):")
        if self.random.random() < 0.3:
            self.emit(indent + 2, "say(j)")
        self.emit(indent + 2, f"yield {self.random.choice(scope['tensors'])} * j")
        self.emit(indent, f"{target} = list({name}())")
        scope["lists"].append(target)

    def comprehension(self, scope, indent, depth, in_loop):
        target = self.name("l")
        test = f" if {self.pick('c > 0', 'c % 2', 'c')}" if self.random.random() < 0.5 else ""
        body = self.pick(f"{self.random.choice(scope['tensors'])} * c", f"{self.random.choice(scope['tensors'])} + c")
        self.emit(indent, f"{target} = [{body} for c in range({self.random.randint(0, 4)}){test}]")
        scope["lists"].append(target)

    def write(self) -> str:
        self.emit(0, "def program(x, box):")
        scope = {
            "tensors": ["x"], "own": [], "ints": [], "own_ints": [], "lists": [], "functions": [],
        }  # fmt: skip
        for _ in range(self.random.randint(4, 9)):
            self.statement(scope, 1, 0, False)
        results = [*scope["tensors"][-3:], *scope["ints"][-2:], *scope["lists"][-2:]]
        self.emit(1, f"return [{', '.join(results)}]")
        return "\n".join(self.lines) + "\n"


def make_program(seed: int):
    """(the function, its source text)."""
    import contextlib

    import lampwork_capture
    import torch

    text = ProgramWriter(seed).write()

    def say(value):
        print("said", value)

    class Manager:
        def __init__(self, log, swallow=False):
            self.log = log
            self.swallow = swallow

        def __enter__(self):
            self.log.append("enter")

        def __exit__(self, kind, value, traceback):
            self.log.append("exit" if kind is None else kind.__name__)
            return self.swallow

    @contextlib.contextmanager
    def scoped(log):
        log.append("+")
        try:
            yield
        finally:
            log.append("-")

    namespace = {
        "__name__": "random_program",
        "torch": torch,
        "say": say,
        "torch_break": lampwork_capture.graph_break,
        "Manager": Manager,
        "scoped": scoped,
        "state_log": [],
    }
    exec(compile(text, f"<program {seed}>", "exec"), namespace)
    return namespace["program"], text
