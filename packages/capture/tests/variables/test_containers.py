"""Lists, tuples, dicts, sets, slices, iterators: results, mutation and aliasing as in eager."""

from __future__ import annotations

import collections
import copy
import itertools
from collections import OrderedDict, defaultdict, namedtuple

import lampwork_capture
import pytest
import torch
from kinds import Programs, check

P = Programs()
whole, any_graphs = P.whole, P.any_graphs

Point = namedtuple("Point", "x y z", defaults=[3])
state_list = [1, 2, 3]
state_dict = {"a": 1, "b": [1, 2]}
state_shared = [[0], [0]]
state_set = {1, 2}
state_queue = collections.deque([1, 2], maxlen=4)
state_ordered = OrderedDict([("p", 1), ("q", 2)])


@whole
def list_methods(x, y):
    items = [3, 1, 2]
    items.insert(0, 5)
    items.extend((7, 8))
    popped = items.pop(1)
    items.remove(7)
    numbers = sorted([3, 1, 2], key=lambda n: -n)
    numbers.reverse()
    return items, popped, numbers, items.index(2), items.count(5), [1, 2] * 2, [1] + [2], x + len(items)


@whole
def list_slices(x, y):
    items = list(range(10))
    items[2:4] = [20, 30, 40]
    del items[-1]
    del items[::3]
    return items, items[1:5:2], items[::-1], (1, 2, 3)[1:], x * items[0]


@whole
def list_of_the_world(x, y):
    state_list.append(4)
    state_list[0] = 9
    first, *rest = state_list
    return x * first, rest, list(state_list)


@whole
def aliased_inner_lists(x, y):
    state_shared[0].append(1)
    inner = state_shared[1]
    inner[0] += 5
    state_shared.append(inner)
    return x + len(state_shared), [list(part) for part in state_shared], list(inner)


@whole
def list_comparisons(x, y):
    return [1, 2] < [1, 3], [1, 2] == [1, 2], (1, 2) >= (1,), [1] != [1], [1, [2]] == [1, [2]], x + 1


@whole
def self_containing_list(x, y):
    items = [x]
    items.append(items)
    return len(items), items[1] is items, x * 2


@whole
def sort_in_place(x, y):
    words = ["bb", "a", "ccc"]
    words.sort(key=len, reverse=True)
    return words, x + len(words), min(words), max(words, key=len)


@whole
def tuples(x, y):
    pair = (x, y)
    a, b = pair
    return pair + (1,), pair * 2, a.sum() + b.sum(), (1, 2, 1).count(1), (1, 2).index(2), 3 in (1, 2)


@whole
def named_tuples(x, y):
    point = Point(x, 2)
    moved = point._replace(y=5)
    a, b, c = moved
    return point, moved, a * b * c, moved.z, point[0] is x, isinstance(point, tuple), point._fields, len(point)


@whole
def sizes(x, y):
    shape = y.shape
    rows, columns = shape
    return (
        rows * columns,
        shape[0],
        shape[-1:],
        shape + (1,),
        torch.Size([1, 2]).numel(),
        y.size(),
        x.reshape(*shape[1:], 1),
    )


@whole
def dict_methods(x, y):
    table = {"a": x, "b": 1}
    table["c"] = y
    table.update({"d": 4}, e=5)
    removed = table.pop("b")
    missing = table.get("zz", 7)
    made = table.setdefault("f", [])
    made.append(1)
    last = {1: 2, 3: 4}.popitem()
    return table, removed, missing, last, list(table), list(table.values())[1:3], dict(table) == table, x + len(table)


@whole
def dict_of_the_world(x, y):
    state_dict["c"] = 3
    state_dict["b"].append(x.shape[0])
    state_dict.pop("a", None)
    return x + state_dict["c"], {k: str(v) for k, v in state_dict.items()}


@whole
def dict_views(x, y):
    table = {"a": 1, "b": 2}
    keys = table.keys()
    total = 0
    for key, value in table.items():
        total += value + len(key)
    table["c"] = 3
    return list(keys), "a" in keys, ("a", 1) in table.items(), keys & {"a", "z"}, len(keys), x * total


@whole
def dict_comprehensions(x, y):
    squares = {n: n * n for n in range(4) if n % 2}
    merged = {**squares, "x": x}
    return x + 1, squares, merged, squares | {9: 1}, {k: v for k, v in zip("ab", (x, y))}


@whole
def ordered_and_default_dicts(x, y):
    ordered = OrderedDict(a=1, b=2)
    ordered.move_to_end("a")
    counts = defaultdict(list)
    counts["k"].append(x)
    counts["k"].append(2)
    state_ordered["r"] = 3
    state_ordered.move_to_end("p")
    return ordered, counts, x + len(counts), list(state_ordered)


@whole
def sets(x, y):
    a, b = {1, 2, 3}, {3, 4}
    a.add(5)
    a.discard(1)
    return a | b, a & b, a - b, a ^ b, 3 in a, len(a), frozenset([1, 2]) <= frozenset([1, 2, 3]), x + len(a | b)


@whole
def iterators(x, y):
    rows = list(zip([1, 2, 3], "abc"))
    indexed = [i * n for i, n in enumerate([4, 5, 6], start=1)]
    mapped = list(map(lambda a, b: a + b, [1, 2], [3, 4]))
    odd = list(filter(lambda n: n % 2, range(5)))
    back = list(reversed([1, 2, 3]))
    it = iter([1, 2, 3])
    first = next(it)
    rest = list(it)
    return rows, indexed, mapped, odd, back, first, rest, next(iter([]), "none"), x * first


@whole
def itertools_basics(x, y):
    chained = list(itertools.chain([1], (2, 3)))
    sliced = list(itertools.islice(itertools.count(5), 3))
    pairs = list(itertools.product([1, 2], "ab"))
    combos = list(itertools.combinations([1, 2, 3], 2))
    totals = list(itertools.accumulate([1, 2, 3]))
    flat = list(itertools.chain.from_iterable([[1], [2]]))
    return chained, sliced, pairs, combos, totals, flat, list(itertools.repeat(0, 2)), x + sum(totals)


@whole
def iterator_left_over(x, y):
    it = iter([1, 2, 3])
    next(it)
    z = zip([1, 2], [3, 4])
    next(z)
    return x + 1, list(it), list(z)


@any_graphs
def iterators_escape(x, y):
    it = iter([1, 2, 3])
    next(it)
    numbered = enumerate(["a", "b"])
    next(numbered)
    text = iter("xyz")
    next(text)
    z = x + 1
    print("break")
    return [z, list(it), list(numbered), list(text)]


@any_graphs
def dict_iterator_across_a_break(x, y):
    table = {"a": 1, "b": 2, "c": 3}
    it = iter(table.items())
    next(it)
    print("break")
    return list(it), x + 1


@whole
def growing_list_while_iterating(x, y):
    items = [1, 2]
    for item in items:
        if item < 5:
            items.append(item + 2)
    return items, x + len(items)


@any_graphs
def dict_changes_while_iterating(x, y):
    table = {1: x}
    for key in table:
        table[key + 1] = y
    return table


@any_graphs
def wrong_index(x, y):
    z = x + 1
    return [1, 2][5], z


@any_graphs
def caught_lookup_errors(x, y):
    found = []
    for function in (
        lambda: [][0],
        lambda: {}["k"],
        lambda: (1,).index(2),
        lambda: next(iter(())),
        lambda: {1}.remove(2),
    ):
        try:
            function()
        except (LookupError, ValueError, StopIteration) as error:
            found.append((type(error).__name__, error.args))
    return found, x + len(found)


@whole
def unpack_tensor(x, y):
    a, b, c = x
    top, bottom = y
    return a + b * c, [row.sum() for row in y], max(len(y), 1), top - bottom


@whole
def nested_mutation(x, y):
    tree = {"kids": [{"v": x}, {"v": y}]}
    for kid in tree["kids"]:
        kid["v"] = kid["v"] * 2
    alias = tree["kids"][0]
    alias["new"] = 1
    return tree, alias is tree["kids"][0]


@whole
def slices_as_values(x, y):
    part = slice(0, 2)
    return x[part], y[:, part], part.stop, part == slice(0, 2), part.indices(10), [1, 2, 3][part]


@any_graphs
def counters_and_deques(x, y):
    queue = collections.deque([1, 2, 3], maxlen=3)
    queue.append(4)
    counts = collections.Counter("aab")
    return list(queue), counts, x + len(queue)


@whole
def deques(x, y):
    queue = collections.deque([1, 2, 3], maxlen=3)
    queue.append(4)
    queue.appendleft(x)
    queue.rotate(1)
    state_queue.clear()
    state_queue.extend([1, 2])
    state_queue.append(1)
    state_queue.extendleft([7, 8])
    left = state_queue.popleft()
    return list(queue), left, list(state_queue), queue[0], len(queue), queue.maxlen, x + len(queue), type(queue)


@whole
def truth_of_containers(x, y):
    return [bool(c) for c in ([], [0], {}, {1: 1}, (), "", "a", set(), {1}, range(0))], x + 1


@whole
def any_all_sum(x, y):
    return any([0, 1]), all([1, 0]), all([]), sum([1, 2, 3], 10), sum([x, x]), min(3, 1, 2), max([4, 9], default=0)


@whole
def star_arguments(x, y):
    def inner(a, *args, k=1, **kwargs):
        return a * k + len(args) + kwargs["w"]

    return inner(*[x, 1, 2], **{"k": 2, "w": 3})


@whole
def slices_with_step_zero(x, y):
    found = []
    for items in ([1, 2], (1, 2)):
        try:
            items[::0]
        except ValueError as error:
            found.append(str(error))
    try:
        del found[::0]
    except ValueError as error:
        found.append(str(error))
    return x + y, found


class NotAnIterator:
    def __iter__(self):
        return self


@whole
def iter_without_next(x, y):
    try:
        iter(NotAnIterator())
    except TypeError as error:
        return x + y, str(error)
    return x - y


@any_graphs
def copy_of_a_set_at_a_break(x, y):
    made = state_set.copy()
    made.add(3)
    again = made.copy()
    made.add(4)
    print(end="")
    return x + len(made), made, again, type(again)


class OwnList(list):
    pass


class OwnDict(dict):
    pass


class OwnOrdered(OrderedDict):
    pass


class OwnDefault(defaultdict):
    pass


class AddsMore(list):
    def __iadd__(self, other):
        return super().__iadd__([*other, "more"])


class OwnKeys(dict):
    def __iter__(self):
        return iter(["k"])

    def keys(self):
        return ["a"]


@any_graphs
def dict_subclasses_with_keys_of_their_own(x, y):
    own = OwnKeys(a=1, b=2)
    target = {}
    target |= own
    return x + 1, list(reversed(own)), {"q": 1} | own, own | {"q": 1}, own.copy(), target, OwnKeys() | own


@any_graphs
def copies_of_ordered_subclasses(x, y):
    ordered, default = OwnOrdered(a=1), OwnDefault(list, {"a": 1})
    copies = [ordered.copy(), ordered | {"b": 2}, default | {"b": 2}]
    return x + 1, [type(made).__name__ for made in copies], [list(made.items()) for made in copies]


with_attributes = OrderedDict(a=1)
with_attributes.tag = "tag"
module = torch.nn.Linear(1, 1)


@any_graphs
def attributes_of_ordered_dicts(x, y):
    made = OrderedDict(a=x)
    try:
        made.version = {"k": y}
        made["b"] = made.version
        shown = made.copy, made.missing
    except AttributeError as error:
        shown = str(error)
    copied = copy.copy(with_attributes), copy.deepcopy(with_attributes)
    tags = [getattr(one, "tag", "none") for one in (with_attributes, *copied, with_attributes.copy())]
    return x + 1, made, vars(made), shown, tags


@any_graphs
def state_dict_in_a_handler(x, y):
    z = x + 1
    try:
        state = module.state_dict()
    except Exception as error:
        return z, repr(error)
    return z, list(state), list(state._metadata)


@any_graphs
def names_of_types_in_messages(x, y):
    shown = []
    for made in (collections.deque(), OrderedDict(), defaultdict(list), {}, itertools.count()):
        for action in (lambda m: m.missing, lambda m: setattr(m, "missing", 1) if type(m) is not OrderedDict else None):
            try:
                action(made)
            except AttributeError as error:
                shown.append(str(error))
    try:
        [].append = None
    except AttributeError as error:
        shown.append(str(error))
    return x + 1, shown


class Counted:
    """Tells what is asked of it."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        self.asked.append("len")
        return 2

    def __getitem__(self, index):
        return (1, 2)[index]


class Hinting:
    def __init__(self, hint):
        self.asked = []
        self.hint = hint

    def __iter__(self):
        self.asked.append("iter")
        return iter((1, 2))

    def __length_hint__(self):
        self.asked.append("hint")
        if self.hint == "raise":
            raise TypeError
        return self.hint


@any_graphs
def length_hints_are_asked(x, y):
    shown = []
    for take in (
        list,
        tuple,
        sorted,
        sum,
        set,
        max,
        lambda c: [*c],
        lambda c: (lambda *a: a)(*c),
        lambda c: list(reversed(c)),
        lambda c: list(iter(c)),
        lambda c: list(map(str, c)),
        lambda c: collections.deque(c),
    ):
        counted = Counted()
        shown.append((take(counted), counted.asked))
    for hint in (2, -1, NotImplemented, "raise", "text"):
        hinting = Hinting(hint)
        try:
            shown.append((list(hinting), hinting.asked))
        except (TypeError, ValueError) as error:
            shown.append((str(error), hinting.asked))
    return x + 1, shown


@any_graphs
def refused_sequences(x, y):
    z = x + 1
    shown = []
    for action in (
        lambda: [*len(x.shape)],
        lambda: (*len(x.shape),),
        lambda: {*len(x.shape)},
        lambda: "a" * x,
        lambda: (1,) * x,
        lambda: [3].index("a"),
        lambda: [3].index(len(x.shape)),
        lambda: (3,).index(4),
    ):
        try:
            shown.append(action())
        except (TypeError, ValueError) as error:
            shown.append(str(error))
    return z, shown


@any_graphs
def counts_of_bools(x, y):
    starts = ((True,), (True, True), (2, True), (True, 0), (False, 2.0), (1.5,))
    return x + 1, [[next(c) for c in [itertools.count(*start)] for _ in range(3)] for start in starts]


class OnlyEnters:
    def __enter__(self):
        return self


class OnlyLeaves:
    def __exit__(self, *error):
        return None


@any_graphs
def no_context_managers(x, y):
    shown = []
    for manager in (5, None, [], OnlyEnters(), OnlyLeaves(), x, collections.deque()):
        try:
            with manager:
                pass
        except (TypeError, AttributeError) as error:
            shown.append((type(error).__name__, str(error)))
    return x + 1, shown


@pytest.mark.parametrize("function,is_whole", P.found, ids=lambda value: getattr(value, "__name__", ""))
def test_containers(function, is_whole):
    saved = {name: __import__("copy").deepcopy(v) for name, v in globals().items() if name.startswith("state_")}
    check(function, is_whole)
    globals().update(saved)


def _add(items, y):
    items += [y]


def _times(items, y):
    items *= 2


def _merge(mapping, y):
    mapping |= {"b": 2}
    mapping |= [("c", 3)]


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: OwnList([1]), _add),
        (lambda: OwnList([1]), _times),
        (lambda: AddsMore([1]), _add),
        (lambda: OwnDict(a=1), _merge),
        (lambda: OwnOrdered(a=1), _merge),
        (lambda: OwnDefault(list, {"a": 1}), _merge),
    ],
)
def test_an_in_place_operator_gives_the_object_itself(make, change):
    def f(given, x):
        y = x + 1
        changed = given
        change(changed, y)
        return y

    def g(given, x):
        y = x + 1
        result = given
        if isinstance(given, list):
            result += [y]
        else:
            result |= {"b": y}
        result.tag = "tag"
        return y, result is given, type(result).__name__

    x = torch.ones(1)
    for function in (f, g):
        want, got = make(), make()
        expected, result = function(want, x), lampwork_capture.optimize("eager")(function)(got, x)
        assert repr(expected) == repr(result)
        assert (repr(got), vars(got)) == (repr(want), vars(want))
