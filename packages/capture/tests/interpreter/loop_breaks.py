"""Programs that break inside loops. COMPILATIONS bounds how many graphs the first call makes."""

from __future__ import annotations

import torch

COMPILATIONS = {}
PROGRAMS = []


def at_most(number):
    def register(function):
        COMPILATIONS[function] = number
        PROGRAMS.append(function)
        return function

    return register


def program(function):
    PROGRAMS.append(function)
    return function


state_log: list = []


@at_most(5)
def thousand_rounds(x):
    for i in range(1000):
        x = x * 0.5
        if i % 100 == 0:
            print("round")
        x = x + 1
    return x * 2


@at_most(3)
def print_in_the_middle(x):
    for _ in range(300):
        y = x.sin()
        print("-", end="")
        x = x + y.cos()
    return x


@at_most(4)
def local_made_in_the_loop(x):
    for i in range(3):
        y = x * 2
        print("y")
        x = x + y
    return y * 3, x, i


@program
def no_round_at_all(x):
    for i in range(int(x.shape[0]) - 3):
        y = x * i
        print("never")
    try:
        return y
    except UnboundLocalError as error:
        return x + 1, str(error)


@program
def unbound_after_the_loop(x):
    for _ in []:
        y = x * 2
        print("never")
    z = x + 1
    return y + z


@program
def bound_in_one_arm(x):
    for i in range(4):
        if i == 2:
            y = x * i
            print("arm")
        x = x + 1
    return y + x


@program
def unbound_in_the_body(x):
    for i in range(3):
        if i > 0:
            x = x + y  # noqa: F821
        print("i", i)
        if i == 1:
            y = x * 2  # noqa: F841
    return x


@at_most(4)
def while_loop(x):
    n = 0
    while n < 50:
        x = x * 0.9
        print(end=".")
        x = x + 1
        n = n + 1
    return x + n


@at_most(4)
def while_on_data(x):
    rounds = 0
    while x.sum() < 1000:
        x = x * 2 + 1
        rounds += 1
    else:
        x = x - 1
    return x, rounds


@at_most(5)
def while_true(x):
    while True:
        x = x * 2
        print(end="w")
        if x.sum() > 200:
            break
        x = x + 1
    return x / 2


@program
def continue_and_break(x):
    for i in range(10):
        x = x + 1
        if i % 2:
            continue
        print("even", i)
        if i > 5:
            x = x * 2
            break
        x = x - 0.5
    else:
        x = x * 100
    return x


@program
def for_else(x):
    for i in range(3):
        print("i", i)
        x = x + i
    else:
        x = x * 10
    return x


@at_most(5)
def return_inside(x):
    for i in range(10):
        x = x * 2
        print("r")
        if i == 3:
            return x + 1, i
        x = x - 1
    return x


@program
def nested_loops(x):
    total = x * 0
    for i in range(3):
        row = x + i
        for j in range(4):
            row = row * 1.5
            print("j", j)
            total = total + row
            if j == 2:
                break
        total = total * 2
    return total, row


@program
def inner_loop_without_break(x):
    for i in range(3):
        for j in range(3):
            x = x + j
        print("outer", i)
        x = x * 2
    return x


@program
def try_in_the_body(x):
    for i in range(5):
        try:
            y = x + i
            print("try", i)
            if i == 1:
                raise ValueError("one")
            if i == 2:
                continue
            if i == 4:
                break
            x = y * 2
        except ValueError as error:
            x = x - 1
            print("caught", error)
        finally:
            x = x + 0.25
            print("finally")
    return x


@program
def try_around(x):
    done = 0
    try:
        for i in range(5):
            x = x + 1
            done = i
            print("i", i)
            x = x * 2
            if i == 2:
                int("not a number")
            done = done + 100
    except ValueError as error:
        return x, done, str(error)
    return x


@program
def data_error_around(x):
    done = 0
    try:
        for i in range(5):
            done = i
            x = x + x[torch.tensor(i)]
            done = done + 10
            print("i")
    except IndexError:
        return x, done
    return x, done


@program
def with_around(x):
    with torch.no_grad():
        for i in range(3):
            y = x * 2
            print(torch.is_grad_enabled())
            x = y + i
    return x, y, torch.is_grad_enabled()


class Swallow:
    def __init__(self, log):
        self.log = log

    def __enter__(self):
        self.log.append("enter")
        return self

    def __exit__(self, kind, error, traceback):
        self.log.append(kind and kind.__name__)
        return True


@program
def with_in_the_body(x):
    log = []
    for i in range(4):
        with Swallow(log):
            x = x + i
            print("with", i)
            if i == 2:
                raise KeyError(i)
            x = x * 2
    return x, log


@program
def with_that_swallows_around(x):
    log = []
    y = x
    with Swallow(log):
        for i in range(4):
            y = y + i
            print(i)
            y = y * 2
            if i == 1:
                int("x")
            y = y - 1
    return y * 3, log


@program
def exception_out_of_the_body(x):
    for i in range(4):
        x = x + i
        print("i", i)
        if i == 2:
            raise RuntimeError(f"at {i}")
        x = x * 2
    return x


@program
def closures_over_the_variable(x):
    functions = []
    for i in range(3):
        functions.append(lambda v: v + i + k)
        k = i * 10
        print("made", i)
        x = x + functions[0](x)
    return [f(x) for f in functions]


@program
def nonlocal_counter(x):
    count = 0

    def bump():
        nonlocal count
        count += 1
        return count

    for _ in range(3):
        x = x * bump()
        print("count", count)
        x = x + count
    return x, count


@program
def argument_changed(x, factor=2):
    for _ in range(3):
        x = x * factor
        print("f", factor)
        factor = factor + 1
    return x, factor


@program
def deleted_in_the_body(x):
    for i in range(3):
        temporary = x + i
        print("t")
        x = temporary * 2
        del temporary
    try:
        return temporary  # noqa: F821
    except UnboundLocalError as error:
        return x, str(error)


@program
def comprehension_with_the_same_name(x):
    for i in range(3):
        values = [i * 2 for i in range(2)]
        print("v", values)
        x = x + sum(values) + i
    return x


@program
def loop_over_items(x):
    table = {"a": x, "b": x + 1, "c": x * 2}
    total = x * 0
    for name, value in table.items():
        total = total + value
        print(name)
        total = total * 2
    return total


@program
def zipped_and_enumerated(x):
    out = []
    for i, (a, b) in enumerate(zip([x, x + 1, x + 2], range(10))):
        y = a * b
        print(i, b)
        out.append(y + i)
    return out


@program
def list_grows(x):
    items = [x]
    for item in items:
        y = item + 1
        print(len(items))
        if len(items) < 4:
            items.append(y * 2)
    return items


@program
def iterator_shared(x):
    numbers = iter([1, 2, 3, 4, 5])
    for n in numbers:
        x = x + n
        print("n", n)
        x = x * next(numbers, 10)
    return x


def loud(v):
    w = v * 2
    print("loud")
    return w + 1


@at_most(4)
def callee_breaks(x):
    for _ in range(20):
        x = loud(x * 0.25)
        x = x - 1
    return x * 2


@at_most(5)
def loop_in_a_callee(x):
    def callee(v):
        for _ in range(20):
            v = v * 0.5
            print(end="c")
            v = v + 1
        return v * 3

    return callee(x + 1) - 1


@program
def return_in_a_callee(x):
    def find(v):
        for i in range(5):
            v = v + i
            print("find", i)
            if i == 2:
                return v * 10
        return v

    return find(x) + find(x + 1)


@program
def in_comprehension(x):
    return [loud(v) for v in (x, x + 1, x + 2)], {i: loud(x + i) for i in range(3)}


@program
def nested_comprehension(x):
    return [[loud(v) + w for w in (1, 2)] for v in (x, x + 1)]


@program
def comprehension_with_condition(x):
    def keep(n):
        print("keep", n)
        return n % 2 == 0

    return [x * n for n in range(5) if keep(n)]


class Stack(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 3) for _ in range(4)])
        self.seen = 0

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
            print("layer")
            self.seen = self.seen + 1
        return x


STACK = Stack()


@program
def module_with_a_loop(x):
    STACK.seen = 0
    return STACK(x) + STACK.seen


class Parent:
    def step(self, x):
        return x + 1


class Child(Parent):
    def step(self, x):
        for _ in range(3):
            x = super().step(x)
            print("step")
            x = x * 2
        return super().step(x)


@program
def super_in_a_loop(x):
    return Child().step(x)


@program
def matched(x):
    for command in [("add", 1), ("mul", 2), "stop", {"k": 3}]:
        match command:
            case ("add", n):
                x = x + n
                print("add", n)
            case (_, n):
                x = x * n
                print("other", n)
            case {"k": k}:
                x = x - k
            case _:
                print("none")
                continue
        x = x + 0.5
    return x


@program
def item_in_a_loop(x):
    history = []
    for i in range(5):
        x = x * 1.5
        history.append(x.sum().item())
        x = x + history[-1]
    return x, history


@program
def global_in_a_loop(x):
    global state_log
    for i in range(3):
        state_log = [*state_log, i]
        x = x + len(state_log)
        print(state_log)
    return x


@program
def walrus_and_conditional(x):
    n = 0
    while (n := n + 1) < 5:
        y = x + n if n % 2 else x - n
        print("n", n)
        x = y * 2
    return x, n


@program
def tensor_rows(x):
    total = 0
    for row in torch.stack([x, x + 1, x + 2]):
        total = total + row * 2
        print("row")
    return total


@program
def generator_in_a_loop(x):
    def numbers(n):
        for i in range(n):
            yield x * i

    for item in numbers(3):
        y = item + 1
        print("item")
        x = x + y
    return x


@program
def raised_and_caught_in_the_body(x):
    for key in ("a", "b", "c"):
        table = {"a": 1, "b": 2}
        try:
            n = table[key]
        except KeyError as error:
            print("missing", error)
            break
        x = x * n
        print(key)
    return x


@program
def two_loops(x):
    for _ in range(2):
        x = x + 1
        print("first")
    y = x * 2
    for _ in range(2):
        y = y + x
        print("second")
    return x + y
