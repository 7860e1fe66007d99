"""Generates random programs of mixed Python: tensors, containers, classes, closures, exceptions, generators, breaks.

A program is plain source text: `program(x, box, n, flag, label)` over the names of random_prelude. `scope` says which
local names hold what; names are only added to it where they are surely bound, or rarely bound.
"""

from __future__ import annotations

import random

KINDS = ("tensor", "int", "tensors", "ints", "dict", "set", "deque", "thing", "function", "text")
Scope = dict[str, list[str]]


class MixedWriter:
    """Writes one program. `random` decides everything."""

    def __init__(self, source: random.Random) -> None:
        self.random = source
        self.lines: list[str] = []
        self.fresh = 0
        self.loops = 0
        self.functions = 0

    def name(self, prefix: str) -> str:
        self.fresh += 1
        return f"{prefix}{self.fresh}"

    def pick(self, *options: str) -> str:
        return self.random.choice(options)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def emit(self, indent: int, text: str) -> None:
        self.lines.append("    " * indent + text)

    def any_of(self, scope: Scope, kind: str, otherwise: str) -> str:
        return self.random.choice(scope[kind]) if scope[kind] else otherwise

    # Expressions

    def int(self, scope: Scope, depth: int = 0) -> str:
        small = str(self.random.randint(-2, 4))
        known = self.any_of(scope, "int", small)
        if depth > 1 or self.chance(0.5):
            return self.pick(small, known, known)
        again = self.int(scope, depth + 1)
        numbers = self.any_of(scope, "ints", "box.items")
        thing = self.any_of(scope, "thing", "state")
        return self.pick(
            f"({again} {self.pick('+', '-', '*')} {self.int(scope, depth + 1)})",
            f"({again} {self.pick('//', '%')} {self.random.randint(1, 3)})",
            f"len({self.any_of(scope, 'tensors', numbers)})",
            f"sum({numbers})",
            f"max({numbers}, default={small})",
            f"{self.any_of(scope, 'tensor', 'x')}.shape[0]",
            f"{thing}.count",
            f"box.{self.pick('count', 'count', 'w')}",
            "state.count",
            "level",
            f"len({self.any_of(scope, 'set', self.any_of(scope, 'dict', numbers))})",
            f"len({self.any_of(scope, 'text', 'label')})",
            f"(say({small}) or {again})",
            f"opaque({small})",
            f"int({self.any_of(scope, 'tensor', 'x')}.sum().item())",
            f"fails({again})",
            f"({numbers}[{self.random.randint(-1, 2)}] if {numbers} else {small})",
            f"(w := {again})",
            f"next(iter({numbers}), {small})",
            f"{thing}.dynamic" if scope["thing"] else small,
            f"getattr({thing}, '{self.pick('count', 'missing', 'dynx')}', {small})",
            f"({again} if {self.condition(scope, depth + 1)} else {small})",
        )

    def tensor(self, scope: Scope, depth: int = 0) -> str:
        simple = self.any_of(scope, "tensor", "x")
        if depth > 2 or self.chance(0.25):
            return simple
        inner = self.tensor(scope, depth + 1)
        thing = self.any_of(scope, "thing", "")
        options = [
            f"({inner} {self.pick('+', '-', '*')} {self.tensor(scope, depth + 1)})",
            f"({inner} {self.pick('+', '-', '*')} {self.int(scope, depth + 1)})",
            f"({inner} * {self.pick('0.5', 'n', 'box.count')})",
            f"torch.{self.pick('relu', 'neg', 'abs', 'clone', 'cos', 'sign')}({inner})",
            f"{inner}.{self.pick('flip(0)', 'view(3)', 'clone()', 'detach()', 'float()', 'reshape(-1)', 'cumsum(0)')}",
            f"torch.where({inner} > 0, {simple}, {inner})",
            f"({inner} + {simple}.{self.pick('sum()', 'mean()', 'amax()', 'shape[0]', 'numel()', 'dim()')})",
            f"({inner} + {simple}[{self.random.randint(-3, 2)}])",
            f"torch.stack([{inner}, {simple}])[{self.random.randint(0, 1)}]",
            f"({inner} if {self.condition(scope, depth + 1)} else {simple})",
        ]
        if scope["function"]:
            chosen = self.any_of(scope, "function", "")
            options += [f"{chosen}({inner})", f"{chosen}({inner}, k={self.int(scope, 1)})", f"{chosen}(*[{inner}])"]
            options += [f"{chosen}(**{{'a': {inner}}})"]
        if scope["tensors"]:
            chosen = self.any_of(scope, "tensors", "")
            options += [f"({chosen}[-1] if {chosen} else {simple})", f"sum({chosen}, {simple})"]
        if scope["dict"]:
            options.append(f"{self.any_of(scope, 'dict', '')}.get({self.key()}, {simple})")
        if thing:
            options += [f"{thing}.step({inner})", f"{thing}.w", f"{thing}.total", f"{thing}({inner})"]
            options += [f"({thing} + {inner}).w", f"({inner} + {thing}[0])"]
        return self.random.choice(options)

    def key(self) -> str:
        return self.pick("'a'", "'b'", "'c'", "label")

    def text(self, scope: Scope) -> str:
        return self.pick(
            f'f"{{{self.int(scope, 1)}}}:{{label}}"',
            f'f"{{{self.int(scope, 1)}:>3}}{{flag!r}}"',
            f"'{{}}-{{}}'.format({self.int(scope, 1)}, label)",
            f"label * {self.random.randint(0, 2)}",
            f"str({self.int(scope, 1)})",
            f"'%s|%d' % (label, {self.int(scope, 1)})",
            f"{self.any_of(scope, 'text', 'label')}.{self.pick('upper()', 'strip()', 'title()')}",
        )

    def condition(self, scope: Scope, depth: int = 0) -> str:
        if depth > 2:
            return self.pick("flag", "n > 1", "box.count", "label == 'a'")
        return self.pick(
            f"{self.any_of(scope, 'tensor', 'x')}.sum() > {self.random.randint(-2, 5)}",
            f"{self.int(scope, depth + 1)} {self.pick('<', '>', '==', '!=', '<=')} {self.int(scope, depth + 1)}",
            "flag",
            "flag is None",
            "n > 1",
            "label == 'a'",
            "level > 1",
            "state.count % 2",
            f"isinstance(n, {self.pick('int', 'float', 'str')})",
            f"not {self.condition(scope, depth + 1)}",
            f"{self.condition(scope, depth + 1)} {self.pick('and', 'or')} {self.condition(scope, depth + 1)}",
            f"{self.int(scope, depth + 1)} in {self.any_of(scope, 'set', self.any_of(scope, 'ints', '(1, 2)'))}",
            f"{self.any_of(scope, 'thing', self.any_of(scope, 'tensors', 'box.items'))}",
            f"{self.key()} in {self.any_of(scope, 'dict', 'box.table')}",
            f"0 < {self.int(scope, depth + 1)} <= 3",
        )

    # Statements

    def block(self, scope: Scope, indent: int, length: int, depth: int, loop: bool = False) -> None:
        inner = {kind: list(names) for kind, names in scope.items()}
        before = len(self.lines)
        for _ in range(length):
            self.statement(inner, indent, depth, loop)
        if len(self.lines) == before:
            self.emit(indent, "pass")

    def statement(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        simple = [
            self.assign, self.assign, self.number, self.number, self.build, self.build, self.mutate, self.mutate,
            self.in_place, self.in_place, self.speak, self.attribute, self.thing, self.string, self.alias,
        ]  # fmt: skip
        nested = [
            self.branch, self.loop, self.loop, self.attempt, self.attempt, self.manage, self.function, self.function,
            self.generator, self.comprehension, self.match, self.local_class, self.late,
        ]  # fmt: skip
        if loop:
            simple.append(self.leave)
        kind = self.random.choice(simple if depth >= 3 or self.chance(0.55) else nested)
        kind(scope, indent, depth, loop)

    def bind(self, scope: Scope, kind: str, prefix: str, again: float = 0.3) -> str:
        own = [name for name in scope[kind] if name in scope["own"]]
        target = self.random.choice(own) if own and self.chance(again) else self.name(prefix)
        for names in (scope[kind], scope["own"]):
            if target not in names:
                names.append(target)
        return target

    def assign(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        value = self.tensor(scope)
        self.emit(indent, f"{self.bind(scope, 'tensor', 't', 0.5)} = {value}")

    def number(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        value = self.int(scope)
        own = [name for name in scope["int"] if name in scope["own"]]
        if own and self.chance(0.4):
            self.emit(indent, f"{self.random.choice(own)} {self.pick('+=', '-=')} {value}")
        elif self.chance(0.15):
            other = self.int(scope)
            first, second = self.bind(scope, "int", "n", 0.2), self.bind(scope, "int", "n", 0.2)
            self.emit(indent, f"{first}, {second} = {value}, {other}")
        else:
            self.emit(indent, f"{self.bind(scope, 'int', 'n')} = {value}")

    def string(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        value = self.text(scope)
        self.emit(indent, f"{self.bind(scope, 'text', 's')} = {value}")

    def alias(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        kind = self.pick("tensors", "ints", "dict", "set", "thing", "tensor", "deque")
        if scope[kind]:
            old = self.random.choice(scope[kind])
            if kind == "tensor" and self.chance(0.6):
                old += self.pick("[1:]", "[:2]", ".view(3)", "[::2]", ".unsqueeze(0)[0]", ".T")
                self.emit(indent, f"{self.bind(scope, 'view', 'v')} = {old}")
                return
            self.emit(indent, f"{self.bind(scope, kind, kind[0])} = {old}")

    def build(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        kind = self.pick("tensors", "ints", "dict", "set", "deque")
        count = self.random.randint(0, 3)
        if kind == "tensors":
            text = "[" + ", ".join(self.tensor(scope, 2) for _ in range(count)) + "]"
            text = self.pick(text, text, f"list(({text[1:-1]}{',' if count else ''}))", f"[*{text}, x]")
        elif kind == "dict":
            text = "{" + ", ".join(f"{self.key()}: {self.tensor(scope, 2)}" for _ in range(count)) + "}"
            text = self.pick(text, text, f"OrderedDict({text})", f"{{**box.table, **{text}}}", "dict(a=x, **{'b': x})")
        else:
            text = "[" + ", ".join(self.int(scope, 1) for _ in range(count)) + "]"
            if kind == "set":
                text = f"set({text})"
            elif kind == "deque":
                text = self.pick(f"deque({text})", f"deque({text}, maxlen=2)")
            else:
                text = self.pick(text, text, f"sorted({text})", "list(range(3))", f"{text} * 2", "box.items[:]")
        self.emit(indent, f"{self.bind(scope, kind, kind[0])} = {text}")

    def mutate(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        kind = self.pick("tensors", "ints", "dict", "set", "deque", "log", "items", "table", "unpack")
        at = self.random.randint(-1, 2)
        number = self.int(scope, 1)
        if kind == "log":
            self.emit(indent, f"log.append({number})")
        elif kind == "unpack" and scope["ints"]:
            first, rest = self.bind(scope, "int", "n", 0), self.bind(scope, "ints", "i", 0)
            self.emit(indent, f"{first}, *{rest} = {self.random.choice(scope['ints'][:-1] or ['box.items'])}")
        elif kind in ("dict", "table"):
            chosen = self.any_of(scope, "dict", "box.table") if kind == "dict" else "box.table"
            key = self.key()
            value = self.tensor(scope, 1)
            self.emit(
                indent,
                self.pick(
                    f"{chosen}[{key}] = {value}",
                    f"{chosen}.update({{{key}: {value}}})",
                    f"{chosen}.setdefault({key}, {value})",
                    f"{chosen}.pop({key}, None)",
                    f"del {chosen}[{key}]",
                    f"{chosen}[{key}] += {number}",
                    f"{chosen}.clear()",
                ),
            )
        elif kind == "set" and scope["set"]:
            chosen = self.any_of(scope, "set", "")
            operation = self.pick(f"add({number})", f"discard({number})", f"update([{number}, 9])", f"remove({number})")
            self.emit(indent, self.pick(f"{chosen}.{operation}", f"{chosen} |= {{{number}}}", f"{chosen} -= {{1}}"))
        elif kind == "deque" and scope["deque"]:
            chosen = self.any_of(scope, "deque", "")
            operation = self.pick(f"append({number})", f"appendleft({number})", "pop()", "popleft()", "rotate(1)")
            self.emit(indent, f"{chosen}.{operation}")
        elif kind == "tensors" and scope["tensors"]:
            chosen = self.any_of(scope, "tensors", "")
            value = self.tensor(scope, 1)
            self.emit(
                indent,
                self.pick(
                    f"{chosen}.append({value})",
                    f"{chosen} += [{value}]",
                    f"{chosen}[{at}] = {value}",
                    f"{chosen}.insert({at}, {value})",
                    f"{chosen}.pop()",
                    f"del {chosen}[{at}:]",
                    f"{chosen}[:1] = [{value}, {value}]",
                    f"{chosen}.reverse()",
                ),
            )
        else:
            chosen = self.any_of(scope, "ints", "box.items") if kind == "ints" else "box.items"
            self.emit(
                indent,
                self.pick(
                    f"{chosen}.append({number})",
                    f"{chosen}.extend([{number}, {number}])",
                    f"{chosen}[{at}] = {number}",
                    f"{chosen}.pop({at})",
                    f"{chosen}.sort()",
                    f"del {chosen}[{at}]",
                    f"{chosen}.remove({number})",
                    f"{chosen}[1:] = [{number}]",
                ),
            )

    def in_place(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        chosen = self.any_of(scope, self.pick("tensor", "view"), self.any_of(scope, "tensor", "x"))
        number = self.int(scope, 1)
        self.emit(
            indent,
            self.pick(
                f"{chosen}.{self.pick('add_', 'mul_', 'sub_', 'fill_')}({number})",
                f"{chosen}[{self.random.randint(-1, 1)}] = {number}",
                f"{chosen}[{self.random.randint(-1, 1)}] {self.pick('+=', '-=', '*=')} {number}",
                f"{chosen}[1:] += {number}",
                f"{chosen}.{self.pick('zero_()', 'neg_()', 'abs_()', 'relu_()')}",
                f"{chosen}[{chosen} > 0] = {number}",
                f"{chosen}[:1].copy_({chosen}[-1:])",
            ),
        )

    def speak(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        self.emit(indent, self.pick(f"say({self.int(scope)})", "torch_break()", f"print({self.text(scope)})"))

    def attribute(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        chosen = self.pick("box", "state", self.any_of(scope, "thing", "box"))
        self.emit(
            indent,
            self.pick(
                f"{chosen}.count += {self.random.randint(1, 2)}",
                f"{chosen}.count = {self.int(scope)}",
                f"{chosen}.w = {self.tensor(scope)}",
                f"{chosen}.total = {self.int(scope)}",
                f"{chosen}.fresh = {self.any_of(scope, 'tensors', 'box.items')}",
                f"setattr({chosen}, 'fresh', {self.int(scope)})",
                f"del {chosen}.fresh",
                f"{chosen}.name = {self.text(scope)}",
            ),
        )

    def thing(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        kind = self.pick("Thing", "Child", *(["Local"] if "Local" in scope["own"] else []))
        value = self.tensor(scope, 1)
        number = self.int(scope, 1)
        if scope["thing"] and self.chance(0.4):
            old, other = self.any_of(scope, "thing", ""), self.any_of(scope, "thing", "")
            text = self.pick(f"{old} + {other}", f"{old} + {number}", f"{number} + {old}", f"max({old}, {other})")
        else:
            text = self.pick(
                f"{kind}({value}, {number})",
                f"{kind}.make({value})",
                f"{kind}(w={value})",
                f"{kind}(*({value}, {number}, 5), **{{'z': {number}}})",
            )
        self.emit(indent, f"{self.bind(scope, 'thing', 'o')} = {text}")
        if self.chance(0.15):
            self.emit(indent, f"{scope['thing'][-1]} += {number}")

    def leave(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        self.emit(indent, f"if {self.condition(scope)}:")
        self.emit(indent + 1, self.pick("break", "continue", f"return {self.tensor(scope)}"))

    def branch(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        self.emit(indent, f"if {self.condition(scope)}:")
        self.block(scope, indent + 1, self.random.randint(1, 3), depth + 1, loop)
        if self.chance(0.5):
            self.emit(indent, self.pick("else:", f"elif {self.condition(scope)}:"))
            self.block(scope, indent + 1, self.random.randint(1, 2), depth + 1, loop)

    def loop(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        if self.loops > 3:
            return
        self.loops += 1
        inner = {kind: list(names) for kind, names in scope.items()}
        variable = self.name("i")
        kind = self.pick("range", "ints", "while", "items", "zip", "tensor", "enumerate", "counter")
        inner["tensor" if kind in ("items", "zip", "enumerate") else "view" if kind == "tensor" else "int"].append(
            variable
        )
        if kind == "while":
            self.emit(indent, f"{variable} = 0")
            self.emit(indent, f"while {variable} < {self.random.randint(0, 3)}:")
            self.emit(indent + 1, f"{variable} += 1")
        else:
            index = self.name("j")
            tensors = self.any_of(scope, "tensors", "[x, x]")
            header = {
                "range": f"{variable} in range({self.random.randint(0, 3)})",
                "ints": f"{variable} in list({self.any_of(scope, 'ints', 'box.items')})[:3]",
                "items": f"{index}, {variable} in list({self.any_of(scope, 'dict', 'box.table')}.items())",
                "zip": f"{index}, {variable} in zip(range(3), {tensors})",
                "tensor": f"{variable} in {self.any_of(scope, 'tensor', 'x')}",
                "enumerate": f"{index}, {variable} in enumerate({tensors}[:2])",
                "counter": f"{variable} in {self.pick('counter(0, 2)', 'relay(1)')}",
            }[kind]
            self.emit(indent, f"for {header}:")
        self.block(inner, indent + 1, self.random.randint(1, 3), depth + 1, True)
        if self.chance(0.25):
            self.emit(indent, "else:")
            self.block(scope, indent + 1, 1, depth + 1, loop)

    def attempt(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        self.emit(indent, "try:")
        self.block(scope, indent + 1, self.random.randint(1, 2), depth + 1, loop)
        if self.chance(0.7):
            failure = self.pick(
                f"raise {self.pick('ValueError', 'KeyError', 'Custom', 'Late')}({self.int(scope, 1)})",
                f"raise Custom({self.int(scope, 1)}, label) from ValueError('cause')",
                f"fails({self.int(scope, 1)}, {self.pick('KeyError', 'Custom', 'Late')})",
                f"chained({self.int(scope, 1)})",
                "box.missing",
                "{}['k']",
                "[][1]",
                "int('z')",
                f"1 // {self.int(scope, 1)}",
                f"assert {self.condition(scope)}, label",
            )
            if self.chance(0.5):
                self.emit(indent + 1, f"if {self.condition(scope)}:")
                self.emit(indent + 2, failure)
            else:
                self.emit(indent + 1, failure)
        self.block(scope, indent + 1, 1, depth + 1, loop)
        handled = self.chance(0.8)
        if handled:
            kinds = self.pick("ValueError", "Exception", "(KeyError, TypeError)", "Custom", "LookupError")
            self.emit(indent, f"except {kinds} as error:")
            shown = self.pick("type(error).__name__", "error.args", "type(error.__cause__).__name__", "str(error)")
            self.emit(indent + 1, f"log.append({shown})")
            self.block(scope, indent + 1, 1, depth + 1, loop)
            if self.chance(0.2):
                self.emit(indent + 1, self.pick("raise", "raise Late(1) from error", "raise Late(2)", "return x + 5"))
            if self.chance(0.3):
                self.emit(indent, "else:")
                self.block(scope, indent + 1, 1, depth + 1, loop)
        if not handled or self.chance(0.4):
            self.emit(indent, "finally:")
            self.block(scope, indent + 1, 1, depth + 1, False)
            if self.chance(0.1):
                self.emit(indent + 1, f"return {self.tensor(scope)}")
            if loop and self.chance(0.1):
                self.emit(indent + 1, "break")

    def manage(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        manager = self.pick(
            "torch.no_grad()", "Manager(log)", "scoped(log)", "Manager(log, True)",
            "Manager(log) as m, scoped(log) as q",
            "contextlib.suppress(KeyError, Custom)", "contextlib.nullcontext(3) as z",
        )  # fmt: skip
        self.emit(indent, f"with {manager}:")
        self.block(scope, indent + 1, self.random.randint(1, 3), depth + 1, loop)

    def function(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        if self.functions > 4:
            return
        self.functions += 1
        name = self.name("f")
        inner = {kind: list(names) for kind, names in scope.items()}
        inner["own"] = []
        inner["tensor"].append("a")
        self.emit(indent, f"def {name}(a, *rest, k={self.int(scope, 1)}, **named):")
        inner["int"].append("k")
        shared = [n for n in scope["int"] if n in scope["own"]]
        if shared and self.chance(0.5):
            chosen = self.random.choice(shared)
            self.emit(indent + 1, f"nonlocal {chosen}")
            self.emit(indent + 1, f"{chosen} += 1")
        elif self.chance(0.2):
            self.emit(indent + 1, "global level")
            self.emit(indent + 1, "level += 1")
        self.block(inner, indent + 1, self.random.randint(1, 3), depth + 1, False)
        self.emit(indent + 1, f"return {self.tensor(inner)}")
        scope["function"].append(name)

    def late(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        tensor = self.any_of(scope, "tensor", "x")
        name = self.name("late")
        default = self.pick("c=c", "k=0")
        self.emit(
            indent, f"{name} = [lambda a, {default}: a * c + {tensor} for c in range({self.random.randint(1, 3)})]"
        )
        self.emit(indent, f"{self.bind(scope, 'tensors', 't', 0)} = [call({tensor}) for call in {name}]")
        if self.chance(0.4):
            self.emit(indent, f"{self.bind(scope, 'function', 'f', 0)} = {name}[0]")

    def generator(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        name, item = self.name("g"), self.name("y")
        inner = {kind: list(names) for kind, names in scope.items()}
        inner["own"] = []
        inner["int"].append(item)
        self.emit(indent, f"def {name}():")
        self.emit(indent + 1, f"for {item} in range({self.random.randint(0, 3)}):")
        self.block(inner, indent + 2, self.random.randint(0, 2), 3, False)
        self.emit(indent + 2, f"got = yield {self.tensor(inner, 1)}")
        if self.chance(0.3):
            self.emit(indent + 1, f"yield from [{self.tensor(inner, 2)}]")
        made = self.bind(scope, "tensors", "t", 0)
        use = self.pick("all", "next", "send", "part", "star")
        if use == "all":
            self.emit(indent, f"{made} = list({name}())")
        elif use == "star":
            self.emit(indent, f"{made} = [*{name}()]")
        else:
            running = self.name("r")
            self.emit(indent, f"{running} = {name}()")
            self.emit(indent, f"{made} = [next({running}, x)]")
            if use == "send":
                self.emit(indent, "try:")
                self.emit(indent + 1, f"{made}.append({running}.send({self.int(scope, 1)}))")
                self.emit(indent, "except StopIteration:")
                self.emit(indent + 1, "log.append('stop')")
            elif use == "part":
                self.emit(indent, f"for {self.name('p')} in {running}:")
                self.emit(indent + 1, "break")

    def comprehension(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        test = f" if {self.pick('c > 0', 'c % 2', 'n != c', 'opaque(c)')}" if self.chance(0.5) else ""
        tensor = self.any_of(scope, "tensor", "x")
        over = f"for c in {self.pick('range(3)', 'range(2)', self.any_of(scope, 'ints', 'box.items') + '[:3]')}{test}"
        kind = self.pick("tensors", "dict", "set", "ints")
        body = {
            "tensors": f"[{tensor} {self.pick('*', '+')} c {over}]",
            "dict": f"{{str(c): {tensor} * c {over}}}",
            "set": f"{{c % 2 {over}}}",
            "ints": self.pick(
                f"[c + d {over} for d in (1, 2)]", f"sorted(c * 2 {over})", f"list(map(opaque, [c {over}]))"
            ),
        }[kind]
        self.emit(indent, f"{self.bind(scope, kind, kind[0])} = {body}")

    def match(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        subject = self.pick(
            self.int(scope), "label", "flag", self.any_of(scope, "ints", "box.items"), "(n, label)",
            self.any_of(scope, "dict", "box.table"), self.any_of(scope, "thing", "box"),
        )  # fmt: skip
        self.emit(indent, f"match {subject}:")
        patterns = [
            "0 | 1", "'a'", "None", "[1, *others]", "(1, 'a')", "{'a': found}", "Thing(count=1)", "int() as whole",
            "[first, second]", "str()", "Box(count=c) if c > 1",
        ]  # fmt: skip
        for pattern in self.random.sample(patterns, 3):
            self.emit(indent + 1, f"case {pattern}:")
            self.block(scope, indent + 2, 1, depth + 1, loop)
        self.emit(indent + 1, "case _:")
        self.block(scope, indent + 2, 1, depth + 1, loop)

    def local_class(self, scope: Scope, indent: int, depth: int, loop: bool) -> None:
        tensor = self.any_of(scope, "tensor", "x")
        self.emit(indent, f"class Local({self.pick('Thing', 'Child')}):")
        self.emit(indent + 1, f"scale = {self.int(scope, 1)}")
        self.emit(indent + 1, "def step(self, t):")
        self.emit(indent + 2, self.pick("self.count += 1", "log.append(self.count)", "say(self.scale)"))
        self.emit(indent + 2, f"return super().step(t) + {tensor}")
        scope["own"].append("Local")

    def write(self) -> str:
        self.emit(0, "def program(x, box, n, flag, label):")
        scope: Scope = {kind: [] for kind in (*KINDS, "own", "view")}
        scope["tensor"].append("x")
        scope["text"].append("label")
        for _ in range(self.random.randint(4, 9)):
            self.statement(scope, 1, 0, False)
        kinds = ("tensor", "int", "tensors", "ints", "dict", "set", "deque", "thing", "view", "text", "function")
        results = [name for kind in kinds for name in scope[kind][-2:]]
        self.emit(1, f"return [{', '.join(results)}]")
        return "\n".join(self.lines) + "\n"


def mixed_program(source: random.Random) -> str:
    """The text of one program."""
    return MixedWriter(source).write()
