"""Read a row of a sweep file:  tools/sweep_row.py FILE.csv [ROW]

With ROW (1 is the first under the header) print its settings, NAME and VALUE on lines of their own; without, check all and say
how to submit them. What cannot be used is refused in one sentence, with exit code 2."""
import csv, json, re, sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1]/'nbs'/'10_training.ipynb'

def known():
    "The settings of the training page, from its cell of parameters."
    tagged = next(c for c in json.loads(PAGE.read_text(encoding='utf-8'))['cells'] if 'parameters' in c['metadata'].get('tags', []))
    return re.findall(r'^(\w+)\s*:', ''.join(tagged['source']), re.M)

def read(path):
    "Rows of a sweep file, as dictionaries of the cells that are not empty."
    if not path: raise ValueError('which sweep file? For example: slurm/sweep.sh slurm/sweeps/formats.csv')
    try: lines = [r for r in csv.reader(open(path, newline='', encoding='utf-8-sig')) if any(c.strip() for c in r)]
    except OSError as e: raise ValueError(f'sweep file {path!r} cannot be read: {e.strerror}') from None
    except (UnicodeDecodeError, csv.Error) as e: raise ValueError(f'sweep file {path!r} is not CSV in UTF-8: {e}') from None
    if not lines: raise ValueError(f'sweep file {path!r} is empty: its first line should name settings, run_name among them')
    (header, *rows), names = lines, known()
    header = [h.strip() for h in header]
    for h in header:
        if h not in names: raise ValueError(f'column {h!r} of {path} is no setting; allowed: {", ".join(names)}')
    if len({*header}) < len(header): raise ValueError(f'{path} has a column twice: {", ".join(header)}')
    if 'run_name' not in header: raise ValueError(f'{path} needs a column run_name, has {", ".join(header)}')
    return [check(path, i, header, r) for i, r in enumerate(rows, 1)]

def check(path, i, header, cells):
    "One row."
    if len(cells) != len(header): raise ValueError(f'row {i} of {path} has {len(cells)} cells, its header {len(header)}')
    row = {h: c.strip() for h, c in zip(header, cells) if c.strip()}
    if 'run_name' not in row: raise ValueError(f'row {i} of {path} has no run_name')
    return row

def main(path='', index=None):
    rows = read(path)
    runs = [r['run_name'] for r in rows]
    for name in runs:
        if runs.count(name) > 1: raise ValueError(f'run_name {name!r} is in rows {" and ".join(str(i) for i, r in enumerate(runs, 1) if r == name)} of {path}; each run needs its own')
    if not rows: raise ValueError(f'{path} has no rows')
    if index is None: return f'{len(rows)} runs: {", ".join(runs)}. Submit them with\nsbatch --array=1-{len(rows)} slurm/sweep.sh {path}'
    if not (index.isdigit() and 1 <= int(index) <= len(rows)): raise ValueError(f'{path} has rows 1 to {len(rows)}, got array index {index}')
    return '\n'.join(s for pair in rows[int(index) - 1].items() for s in pair)

if __name__ == '__main__':
    try: print(main(*sys.argv[1:]))
    except ValueError as e:
        print(e, file=sys.stderr)
        sys.exit(2)
