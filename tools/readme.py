#!/usr/bin/env python3
"README.md is nbs/index.ipynb, read on a code host: `python tools/readme.py`, or `--check` to compare."
import re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
HIDE = re.compile(r'^#\|\s*(hide|include:\s*false|export|exporti|default_exp\s.*)\s*$', re.M)

def readme():
    "Text of README.md and the images in it, by file name."
    nb = nbformat.read(ROOT/'nbs/index.ipynb', 4)
    nb.metadata.language_info = dict(name='python')
    nb.cells = [c for c in nb.cells if c.cell_type != 'raw' and not (c.cell_type == 'code' and HIDE.search(c.source))]
    for c in nb.cells:
        if c.cell_type != 'code': continue
        if re.search(r'^#\|\s*echo:\s*false', c.source, re.M): c.metadata['transient'] = dict(remove_source=True)
        c.source = re.sub(r'^#\|.*\n?', '', c.source, flags=re.M)
    text, resources = MarkdownExporter().from_notebook_node(nb, resources=dict(output_files_dir='README_files', unique_key='README'))
    text = re.sub(r'<style scoped>.*?</style>\s*', '', text, flags=re.S)
    text = re.sub(r'\n```\n+```python\n', '\n', text)  # cells that follow each other are one listing
    text = re.sub(r'\]\((\d\d_\w+\.ipynb)', r'](nbs/\1', text).replace('](../', '](')
    text = re.sub(r'\n{3,}', '\n\n', re.sub(r'[ \t]+$', '', text, flags=re.M)).strip() + '\n'
    return text, resources.get('outputs', {})

def main():
    text, images = readme()
    files = {ROOT/'README.md':text.encode(), **{ROOT/k:v for k,v in images.items()}}
    if '--check' in sys.argv:
        if stale := [p.name for p,b in files.items() if not p.exists() or p.read_bytes() != b]:
            sys.exit(f"{', '.join(stale)} not as nbs/index.ipynb has it: run `make readme`")
    for p,b in files.items():
        p.parent.mkdir(exist_ok=True)
        p.write_bytes(b)

if __name__ == '__main__': main()
