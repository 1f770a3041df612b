"""The verifier under attack: random and adversarial completions up to 100 kB. Slowest grade of each kind, exceptions, wrong verdicts."""
import argparse, ast, random, re, sys, time
from collections import Counter
from fractions import Fraction
from pathlib import Path
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from grpo_nb.problems import sample_problem, solve
from grpo_nb.prompts import PROMPT_FORMATS, Problem
from grpo_nb.rewards import format_ok, grade, reward_function, safe_eval, shown

LONGEST, LIMIT = 100_000, 50. # Characters of a completion; milliseconds of a grade
UNITS = [ # What a completion repeats: every character and construct that some pattern of the verifier knows
    *' \n\t\r\f\v9()+-*/=.,_\\xX[]{}!?:;#"\'`$&<>|\0\x1f\x85\xa0\u2028\u200b٣²½é×·−–—•√÷∗⋅\ud800', '\r\n', ' \n', '\n ', '1\n', '1\n1\n', '1 \n', '1\n\n\n',
    '1\u2028', '1     ', '<think>', '</think>', '<think></think>', '<think> ', '<answer>', '</answer>', '<answer></answer>', '<answer>1', '</', '<a', '1 = ', '= ', '1. ', '1) ',
    '\n- ', '\n* ', '\n1. ', '\n1', '1+', '1 + ', '1-', '- ', '* ', '**', '1*', 'x ', '1 x ', 'x1', 'a ', 'a_', 'ab(', 'a1', 'print(', 'print(1+2)', 'plus ', 'times ',
    '\\times ', '\\cdot', '\\left(', '\\right)', '\\boxed{', '\\text{', '\\(', '\\]', '\\\\', '\\,', '&times;', '()', '(1', '1)', '1)+(1\n', '((1', '(1)', '07+1 = ', '1/1 = ', '1.1', '.5',
    '1,', '3*5+2', '3*5+2\n', '3 * 5 + 2 = 17\n', '3*5+2, ', '((3))*5-2\n', '--3*5-2 = ', '(3*5', '**3 * 5 + 1** ', '{3 * [5]} - 2 ', '3+5 - 2\n', 'the answer is 3 * 5, ']


# Completions

def expression(rng, nums, depth=0):
    "A random expression over `nums`, with the freedoms that the grammar gives and some that it does not."
    gap = rng.choice(('', ' ', ' ', '\n', '\t ')) if rng.random() < .9 else rng.choice(('\xa0', '\u2009', '\0', '_'))
    if len(nums) == 1: s = rng.choice(('', '', '', '-', '+', '0'))*(rng.random() < .1) + str(nums[0])
    else:
        k = rng.randrange(1, len(nums))
        s = expression(rng, nums[:k], depth + 1) + gap + rng.choice('+-*+-*/' if rng.random() < .95 else '×·−÷^%') + gap + expression(rng, nums[k:], depth + 1)
    return f'({s})' if rng.random() < (.5 if depth and len(nums) > 1 else .05) else s


def mutated(rng, text):
    "Text with some characters deleted, doubled, swapped or replaced, or a piece of it moved."
    s = list(text)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        i, j = rng.randrange(len(s) + 1), rng.randrange(len(s) + 1)
        s[i:i + rng.randrange(3)] = rng.choice(([], [rng.choice(UNITS)], s[j:j + 3], s[i:i + 1]*2))
    return ''.join(s)


def dressed(rng, problem, fmt, expr):
    "An expression as models present one."
    t = problem.target
    if fmt == 'natural': return rng.choice((f'So {expr} = {t}.', f'**{expr}**', f'- {expr} = {t}', f'1. {expr}', f'$\\boxed{{{expr}}}$', f'```\nprint({expr})\n```', f'\\({expr} = {t}\\)', expr))
    return f'<think> {rng.choice(("hm", "", "10 < 17", expr, f"<answer>{expr}</answer>"))} </think>{rng.choice((" ", "", chr(10)))}<answer>{rng.choice((" ", "", chr(10)))}{expr}</answer>'


def good(rng, problem, size):
    "A right answer, or nearly; long ones stand between prose."
    right = solve(problem) or [expression(rng, list(problem.nums))]
    text = mutated(rng, dressed(rng, problem, rng.choice(PROMPT_FORMATS), rng.choice(right) if rng.random() < .6 else expression(rng, rng.sample(problem.nums, len(problem.nums)))))
    fill = rng.choice(('so we try again and ', 'then 1 + 1 = 2, ', '\n', ' ', 'no, 3 * 5 is not it\n'))*(size//20)
    return rng.choice((text, fill + text, text + fill, fill + text + fill))[:LONGEST]

def repeat(rng, problem, size):
    "One unit over and over, with or without something around it."
    u = rng.choice(UNITS)
    ends = ('', '', '1', ' 1', 'x', '\n', '(', ')', '<think>', '<answer>', '</answer>', ' = 17', ' a', '\\', solve(problem)[0])
    return rng.choice(ends) + (u*(size//len(u) + 1))[:size - 40] + rng.choice(ends)

def two(rng, problem, size):
    "Two units in turn, or a run of one before a run of the other: what alternations and look-arounds stumble over."
    u, v = rng.choices(UNITS, k=2)
    m = rng.choice((1, 1, 2, 7, 100, size))
    return ((u*m + v*rng.choice((1, m)))*(size//(m*(len(u) + len(v))) + 1))[:size]

def inside(rng, problem, size):
    "A run inside the answer block, the reasoning or a boxed line."
    head, tail = rng.choice((('<answer>', '</answer>'), ('<think>', '</think>'), ('<think>a</think><answer>3', '</answer>'), ('\\boxed{', '}'), ('(', ')'), ('[', ']'), ('`', '`')))
    return head + repeat(rng, problem, size - 40)[:size - 40] + tail

def soup(rng, problem, size):
    "Units in any order."
    some = rng.sample(UNITS, rng.randrange(2, 40))
    return ''.join(rng.choices(some, k=size//3))[:size]

def sums(rng, problem, size):
    "Expressions over the right and over wrong numbers, line after line."
    between, lines, n = rng.choice(('\n', ' = ', ', ', '; so ', '\n- ', ' x ', ' a ')), [], 0
    while n < size:
        nums = rng.sample(problem.nums, len(problem.nums)) if rng.random() < .5 else rng.choices(range(12), k=rng.randrange(2, 5))
        lines.append(expression(rng, nums))
        n += len(lines[-1]) + len(between)
    return between.join(lines)[:size]

def bytes_(rng, problem, size):
    "Any code points at all."
    top = rng.choice((0x80, 0x100, 0x3000, 0x110000))
    return ''.join(map(chr, rng.choices(range(top), k=size)))

KINDS = {f.__name__.strip('_'): f for f in (good, repeat, two, inside, soup, sums, bytes_)}


# A second opinion

def exact(expr, ops='+-*'):
    "Value and numbers of an expression by Python's own parser, its tree walked by hand; None where it is not one of ours."
    plain = re.sub(r'[ \t\n\r\f\v]+', ' ', expr).strip()
    if re.search(r'[^0-9+\-*/() ]|\*\s*\*|/\s*/|\+\s*\+|[-*/(]\s*\+|^\+|(?<![0-9])0[0-9]', plain): return None
    while (less := re.sub(r'\( *\(([^()]*)\) *\)', r'(\1)', re.sub(r'\( *([0-9]+) *\)', r' \1 ', plain))) != plain:
        if re.search('[0-9] +[0-9(]|[0-9)] *\\(|\\) *[0-9]', plain): return None # `3 (5)` would turn into `3 5`, which is refused, too
        plain = less # Python's parser stops at two hundred parentheses
    try: tree = ast.parse(f'({plain})', mode='eval').body
    except (SyntaxError, ValueError, MemoryError, RecursionError): return None
    numbers = []
    def walk(node):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            numbers.append(node.value)
            return Fraction(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub): return -walk(node.operand)
        a, b = walk(node.left), walk(node.right)
        if isinstance(node.op, ast.Div) and '/' in ops: return a/b
        return {ast.Add: a + b, ast.Sub: a - b, ast.Mult: a*b}[type(node.op)]
    try: return walk(tree), numbers
    except (KeyError, AttributeError, ZeroDivisionError): return None


def objection(g, completion, problem, fmt, lenient, ops='+-*'):
    "Why a verdict cannot be so, or None."
    if not g.correct: return 'reward 1 for a wrong answer' if g.reward == 1 and not lenient else None
    found = exact(g.expression, ops)
    if found is None: return 'not an expression'
    if Counter(found[1]) != Counter(problem.nums): return 'other numbers'
    if found[0] != problem.target or g.value != problem.target: return 'another value'
    if not solve(problem, ops): return 'accepted, though the puzzle has no solution'
    if not lenient and g.reward != 1: return 'correct, but the reward is not 1'
    if fmt != 'natural' and not lenient and f'<answer>{g.expression}</answer>' not in re.sub(r'(?<=<answer>)\s+|\s+(?=</answer>)', '', completion): return 'not what the answer block holds'


# The run

def clocked(call):
    "Result and milliseconds of processor time; the best of three if it looks slow, so that a busy machine does not decide."
    best = None
    for _ in range(3):
        start = time.process_time()
        result = call()
        ms = 1000*(time.process_time() - start)
        best = ms if best is None else min(best, ms)
        if ms < 15: break
    return result, best


def attack(text, problem, truncated, ops):
    "All readings of one completion: objections, exceptions, the slowest and its milliseconds, verdicts."
    wrong, raised, slowest, accepted, verdicts = [], [], (0., ''), 0, {}
    for fmt in PROMPT_FORMATS:
        for lenient in (False, True):
            name = f'{fmt}{", lenient" if lenient else ""}'
            try: g, ms = clocked(lambda: grade(text, problem, fmt, lenient, ops, truncated))
            except Exception as e:
                raised.append(f'{name}: {e!r:.200}')
                continue
            verdicts[fmt, lenient], slowest, accepted = g, max(slowest, (ms, name)), accepted + g.correct
            if why := objection(g, text, problem, fmt, lenient, ops): wrong.append(f'{name}: {why}: {g.expression!r:.200}')
        a, b = verdicts.get((fmt, False)), verdicts.get((fmt, True))
        if a and b and (a.correct > b.correct or a.reward != b.reward): wrong.append(f'{fmt}: the lenient reading takes back the strict one')
    for call in (lambda: format_ok(text, 'natural'), lambda: format_ok(text, 'zero-shot'), lambda: safe_eval(text, ops), lambda: shown(text, problem, ops),
                 lambda: reward_function([text]*2, [problem]*2, 'natural', ops)):
        try: call()
        except Exception as e: raised.append(f'{e!r:.200}')
    return wrong, raised, slowest, accepted


def main(argv=None):
    from common import table, write # Here, since the tests use what is above and have a `common` of their own
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument('--seconds', type=float, default=60, help='how long to attack')
    p.add_argument('--seed', type=int, default=0, help='of the completions')
    p.add_argument('--out', type=Path, default=ROOT/'benchmarks'/'results', help='folder of fuzz.json')
    a = p.parse_args(argv)
    if not a.seconds > 0: p.error(f'--seconds should be above 0, got {a.seconds}')
    rng, start = random.Random(f'fuzz {a.seed}'), time.monotonic()
    kinds = {k: dict(completions=0, longest=0, readings=0, accepted=0, slowest_ms=0., reading='', slowest='') for k in KINDS}
    wrong, raised, slow = [], [], []
    while not all(k['completions'] for k in kinds.values()) or time.monotonic() - start < a.seconds:
        name = min(kinds, key=lambda k: kinds[k]['completions'])
        problem, size = sample_problem(rng, rng.choice((2, 3, 3, 4)), 'study'), rng.choice((LONGEST, LONGEST, rng.randrange(100, LONGEST), rng.randrange(100, 2000)))
        if rng.random() < .5: problem = Problem((3, 5, 2), 17)
        elif rng.random() < .1: problem = Problem(problem.nums, rng.randrange(1, 101)) # Perhaps without a solution
        text = KINDS[name](rng, problem if solve(problem) else Problem((3, 5, 2), 17), size)
        found, errors, (ms, reading), accepted = attack(text, problem, rng.random() < .2, rng.choice(('+-*', '+-*', '+-*/')))
        k, what = kinds[name], f'{text[:60]!r} … {text[-30:]!r}, {len(text)} characters'
        k['completions'], k['longest'], k['readings'], k['accepted'] = k['completions'] + 1, max(k['longest'], len(text)), k['readings'] + 6, k['accepted'] + accepted
        if ms > k['slowest_ms']: k.update(slowest_ms=ms, reading=reading, slowest=what)
        wrong += [f'{name}: {w} in {what}' for w in found]
        raised += [f'{name}: {e} in {what}' for e in errors]
        if ms > LIMIT: slow.append(f'{name}: {ms:.0f} ms, {reading}, {what}')
    table(['completions', 'number', 'accepted', 'slowest, ms'], [[k, v['completions'], v['accepted'], v['slowest_ms']] for k, v in kinds.items()])
    total = sum(v['completions'] for v in kinds.values())
    print(f'{total:,} completions, {6*total:,} grades: {len(raised)} exceptions, {len(wrong)} wrong verdicts, {len(slow)} slower than {LIMIT:.0f} ms')
    for line in (raised + wrong + slow)[:20]: print(' ', line)
    settings = dict(seconds=a.seconds, seed=a.seed, limit_ms=LIMIT, longest=LONGEST)
    print(write(a.out/'fuzz.json', 'fuzz', settings, completions=total, kinds=kinds, raised=raised[:20], wrong=wrong[:20], slow=slow[:20],
                slowest_ms=max(v['slowest_ms'] for v in kinds.values())))
    return bool(raised or wrong or slow)

if __name__ == '__main__': sys.exit(main())
