"""Programs that differed between eager and optimized, or are near to such, made small."""

CORPUS = {
    "unpack_fails_in_loop_inside_with": """
def program(x, box, n, flag, label):
    t1 = [x]
    with Manager(log):
        for i in [x, x]:
            torch_break()
            try:
                a, b = t1
            except Exception as error:
                log.append(error.args)
""",
    "handler_in_loop_inside_with_after_break": """
def program(x, box, n, flag, label):
    with Manager(log):
        for i in [x, x]:
            fails(n)
            try:
                opaque(3)
            except Exception as error:
                pass
    return x + 1
""",
    "raises_in_loop_with_an_instruction_that_no_handler_covers": """
def program(x, box, n, flag, label):
    with Manager(log):
        for i in [x, x]:
            () = [x, n]
            try:
                pass
            except Exception as error:
                pass
""",
    "percent_of_a_tensor_raises_its_own_error": """
def program(x, box, n, flag, label):
    try:
        s = '%d' % box.w
    except (KeyError, TypeError) as error:
        log.append(1)
    return x
""",
}
