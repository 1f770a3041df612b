#!/usr/bin/env python3
"""The site in _docs/, from nbs/, outputs/records/ and CHANGELOG.md, no cell of which is run: `python tools/docs.py`.

nbdev's processors read a notebook, the functions here say in MyST what nbdev says in Quarto, Sphinx draws the pages."""
import ast, importlib, importlib.util, os, re, shutil, subprocess, sys, tarfile, tempfile, time
from pathlib import Path
from execnb.nbio import mk_cell, new_nb, read_nb, write_nb
from nbdev.doclinks import NbdevLookup, patch_name
from nbdev.processors import FilterDefaults
from nbdev.showdoc import show_doc
from grpo_nb._modidx import d as INDEX

ROOT = Path(__file__).resolve().parents[1]
SITE, STATIC, DOCS, RECORDS = ROOT/'_proc/site', ROOT/'_proc/static', ROOT/'_docs', ROOT/'outputs/records'
CHAPTERS = {'0':'Building blocks', '1':'Training', '2':'Evaluation and use', '3':'The study'}  # by a page's first digit
VIEW, STATE = (f'application/vnd.jupyter.widget-{x}+json' for x in ('view', 'state'))
WIDGET_SCRIPTS = {'requirejs@2.3.8':'require.js', '@jupyter-widgets/html-manager@1.0.15':'dist/embed-amd.js'}
REPOSITORY = '{git_url}/blob/{branch}/'.format(**INDEX['settings'])

def page_paths():
    "The numbered pages in reading order."
    return sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))

def record_paths():
    "Executed notebooks of runs, those of a study in a folder of their own."
    hidden = lambda p: any(o.startswith('.') for o in p.relative_to(RECORDS).parts)
    return sorted(p for p in RECORDS.rglob('*.ipynb') if not hidden(p) and not p.name.endswith('.new.ipynb'))

def url(stem):
    "What nbdev calls a page on the web: 05_objective is objective."
    return re.sub(r'^\d+[a-zA-Z0-9]*_', '', stem.lower())

# Prose: from nbdev's and Quarto's dialect to MyST's

class Lookup(NbdevLookup):
    "nbdev's search for names in backticks, with links that stay on the site; a page's own names come first."
    def __init__(self, module=''):
        syms = INDEX['syms']
        self.names = {full[len(mod)+1:]:full for mod in [*syms, module] for full in syms.get(mod, ())}

    def _link_sym(self, m):
        name, inside = m[1], m.string[:m.start()].endswith('[')
        if (ROOT/f'nbs/{name}.ipynb').exists() and not inside: return f'[`{name}`](/{url(name)}.ipynb)'
        if name not in self.names or inside: return m[0]
        of_class = re.match(r'grpo_nb\.\w+\.\w+', self.names[name])[0]  # a method is described with its class
        return f'{{py:obj}}`{m[0].strip("`")} <{of_class}>`'

def callouts(text):
    "`::: {.callout-warning}` is an admonition; a heading in it, its title."
    def admonition(m):
        kind, title, body = m.groups()
        return f':::{{admonition}} {title}\n:class: {kind}\n{body}:::' if title else f':::{{{kind}}}\n{body}:::'
    return re.sub(r'^:::+ *\{\.callout-(\w+)[^}\n]*\}\n+(?:#+ ([^\n]+)\n+)?(.*?)^:::+ *$', admonition, text, flags=re.M|re.S)

def links(text, base='nbs'):
    "Links to pages, records and files of the repository, from wherever on the site; `base` is where the text lies."
    def local(m):
        path, place = os.path.normpath(f'{base}/{m[1]}'), m[2] or ''
        if path == 'CHANGELOG.md': return f'](/changelog.md{place})'
        if page := re.fullmatch(r'nbs/(\d\d_\w+|index)\.(ipynb|html)', path): return f'](/{url(page[1])}.ipynb{place})'
        if record := re.fullmatch(r'outputs/records/(.+\.ipynb)', path): return f'](/record/{record[1]}{place})'
        return f']({REPOSITORY}{path}{place})'
    return re.sub(r'\]\((?!\w+:|[#/<])([^)#\s]+)(#[^)\s]*)?\)', local, text)

def equations(text):
    "`$$ … $$ {#eq-x}` labels an equation, `@eq-x` refers to it."
    return re.sub(r'(?<![\w`])@(eq-[\w-]+)', r'{eq}`\1`', re.sub(r'\$\$ *\{#(eq-[\w-]+)\}', r'$$ (\1)', text))

def prose(text, module='', base='nbs'):
    "Markdown as MyST reads it."
    return equations(callouts(Lookup(module).linkify(links(text, base)) or ''))

# Code and what it shows

def signature(node):
    "Name and arguments of a definition, without the types: the source below has them."
    made = next((f for f in node.body if getattr(f, 'name', '') == '__init__'), None) if isinstance(node, ast.ClassDef) else node
    if made is None: return node.name
    args = made.args
    for a in [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]:
        if a: a.annotation = None
    if made is not node: args.args.pop(0)
    inside = ast.unparse(args)
    return f"{node.name}({inside if len(inside) < 100 else '…'})"

def descriptions(source, module):
    "A Sphinx object for each public definition in a cell: what links, search and indexes find."
    for node in ast.parse(source).body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name[0] == '_' or patch_name(node) != node.name: continue
        kind, said = 'class' if isinstance(node, ast.ClassDef) else 'function', ast.get_docstring(node) or ''
        yield mk_cell(f'````{{py:{kind}}} {signature(node)}\n{prose(said, module)}\n````', 'markdown')

def output(out, states, module):
    "An output without the styles that pandas repeats for each table, and without controls that have no stored state."
    data = out.get('data', {})
    if 'text/html' in data:
        plain = re.sub(r'<style scoped>.*?</style>\s*', '', ''.join(data['text/html']), flags=re.S)
        data['text/html'] = re.sub(r'<td>([^<]{1,24})</td>', r'<td class="short">\1</td>', plain)
    if 'text/markdown' in data: data['text/markdown'] = prose(''.join(data['text/markdown']), module)
    if VIEW in data and data[VIEW]['model_id'] not in states:
        del data[VIEW]
        if 'text/html' not in data: data['text/markdown'] = '*Interactive: open this notebook in JupyterLab to use it.*'
    return out

def folded(cell, record, exported, tags):
    "The line behind which a cell's source is folded, if it is."
    if exported and all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(cell.source).body): return 'Imports'
    if exported and record: return 'Code of the library'
    if 'parameters' in tags and record: return 'Settings and their defaults'
    if cell.directives_.get('code-fold:') == ['true']: return 'Code'

def code(cell, module, record, states):
    "A code cell as its directives ask for it, behind descriptions of what it exports."
    tags, exported = cell.metadata.get('tags', []), bool({'export', 'exports'} & set(cell.directives_))
    cell.source = re.sub(r'\A(?:\s*#\|.*\n?)+', '', cell.source).strip()
    cell.outputs = [output(o, states, module) for o in cell.get('outputs', [])]
    if not cell.source or cell.directives_.get('include:') == ['false']: return []
    label, shown = folded(cell, record, exported, tags), []
    cell.metadata = dict(tags=['hide-input'], mystnb=dict(code_prompt_show=label, code_prompt_hide=label)) if label else {}
    if cell.directives_.get('echo:') == ['false']: cell.metadata = dict(tags=['remove-input'])
    if cell.directives_.get('output:') == ['false']: cell.outputs = []
    return [*(descriptions(cell.source, module) if exported and not record else ()), cell]

# Notebooks

def without_hidden(cell):
    "What nbdev keeps out of pages, but for exported code: that is what pages are about."
    if {'hide', 'exporti', 'default_exp'} & set(cell.directives_): del cell['source']

class Site(FilterDefaults):
    "nbdev's processors, less those that run cells and those that replace code by its signature."
    def base_procs(self):
        ours = dict(add_show_docs=None, insert_warning=None, clean_show_doc=None, exec_show_docs=None, rm_export=without_hidden, add_links=None)
        return [p for p in (ours.get(p.__name__, p) for p in super().base_procs()) if p]

def stage(path, to, head, module='', record=False, tail=''):
    "Write a notebook's page; `head` makes its first cell from title, promise and notebook. Returns title and promise."
    nb = read_nb(path)
    states = nb.metadata.get('widgets', {}).get(STATE, {}).get('state', {})
    Site()(nb)
    title, promise = (nb.frontmatter_.get(k, '') for k in ('title', 'description'))
    cells = [mk_cell(head(title, prose(promise, module), nb), 'markdown')]
    for c in nb.cells:
        if c.cell_type == 'code': cells += code(c, module, record, states)
        elif c.cell_type == 'markdown': cells.append(mk_cell(prose(c.source, module), 'markdown'))
    if tail: cells.append(mk_cell(tail, 'markdown'))
    meta = dict(kernelspec=dict(name='python3', language='python', display_name='python3'), language_info=dict(name='python'), **({'widgets':nb.metadata.widgets} if states else {}))
    to.parent.mkdir(parents=True, exist_ok=True)
    write_nb(new_nb(cells, meta), to)
    return title, promise

def module_of(path):
    "The module that a page writes, or nothing."
    m = re.search(r'#\|\s*default_exp\s+(\w+)', path.read_text(encoding='utf-8'))
    return f'grpo_nb.{m[1]}' if m and f'grpo_nb.{m[1]}' in INDEX['syms'] else ''

def stage_pages():
    "Write the numbered pages; their titles and promises by path."
    about = {}
    for p in page_paths():
        module = module_of(p)
        def head(title, promise, nb):
            target, made = (f'```{{py:module}} {module}\n```\n\n', f', module [`{module}`](/api/{url(p.stem)}.md)') if module else ('', '')
            return f'# {title}\n\n{target}{{.promise}}\n{promise}\n\n{{.source}}\nNotebook `nbs/{p.name}`{made}'
        about[p] = stage(p, SITE/f'{url(p.stem)}.ipynb', head, module)
    return about

def toctree(*entries, caption='', hidden=True):
    "A table of contents for the side bar."
    options = [':hidden:'] * hidden + [':maxdepth: 1'] + [f':caption: {caption}'] * bool(caption)
    return '\n'.join(['```{toctree}', *options, '', *entries, '```\n'])

def write(to, text):
    "Write a page of Markdown."
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(text, encoding='utf-8')

def stage_records():
    "Write the run records and, for each folder of them, a page that lists them."
    rows = {}
    for p in record_paths():
        def head(title, promise, nb):
            ran = nb.metadata.get('papermill', {})
            page, settings = Path(ran.get('input_path') or 'a notebook').stem, dict(ran.get('parameters') or {})
            said = ', '.join(f'`{k}={v!r}`' for k,v in settings.items() if k != 'run_name') or 'the defaults'
            seconds, day = ran.get('duration') or 0, (ran.get('start_time') or '')[:10].replace('-', '\u2011')
            took = f'{seconds/60:.0f}\u00a0min' if seconds > 90 else f'{seconds:.0f}\u00a0s'
            rows.setdefault(p.parent.relative_to(RECORDS), []).append(f'| [{p.stem}]({p.name}) | {prose(f"`{page}`")} | {said} | {day} | {took} |')
            return f'# {p.stem}\n\n{prose(f"`{page}`")} ({title}), run on {day} in {took} with {said}. The executed notebook is `{p.relative_to(ROOT)}`.'
        stage(p, SITE/'record'/p.relative_to(RECORDS), head, module_of(p), record=True)
    for folder,lines in rows.items():
        title = '# Run records' if folder == Path() else f'# Run records: {folder.as_posix().removesuffix("/records")}'
        table = '\n'.join(['| record | page | settings | day | time |', '|---|---|---|---|---|', *lines])
        inside = [re.search(r'\((.*?)\.ipynb\)', l)[1] for l in lines] + [f'{f.relative_to(folder)}/index' for f in rows if next((a for a in f.parents if a in rows), None) == folder]
        write(SITE/'record'/folder/'index.md', f'{title}\n\nExecuted notebooks, with all that their runs said and drew.\n\n{table}\n\n{toctree(*inside)}')

# The reference

def reference(symbol, target, level):
    "nbdev's `show_doc`: the signature with its comments, and the docstring."
    try: block, said = re.search(r'(```python\n.*?\n```)\s*(.*)', show_doc(symbol, title_level=level)._repr_markdown_(), re.S).groups()
    except NameError: block, said = '', symbol.__doc__  # a foreign __init__ whose annotations are names of its own module
    if 'VAR_POSITIONAL' in block and isinstance(symbol, type): block = ''  # arguments of a foreign __init__ say nothing
    block = re.sub(r'\n\n+', '\n', block)
    return f"{'#'*level} {{py:obj}}`{target[0]} <{target[1]}>`\n\n{block}\n\n{prose(said.strip('*'))}\n"

def stage_reference(about):
    "Write a page for each module and one that lists all public names."
    lists, made = [], []
    for p,(title,promise) in about.items():
        if not (module := module_of(p)): continue
        lib, entries, names = importlib.import_module(module), [], []
        for full in INDEX['syms'][module]:
            name = full[len(module)+1:]
            cls, _, method = name.partition('.')
            if any(part[0] == '_' for part in name.split('.')) or not hasattr(lib, cls): continue
            symbol = getattr(getattr(lib, cls), method, None) if method else getattr(lib, cls)
            if not callable(symbol) or method and not symbol.__doc__: continue
            entries.append(reference(symbol, (name, f'{module}.{cls}'), 3 if method else 2))
            if not method: names.append(f'{{py:obj}}`{name} <{full}>`')
        write(SITE/f'api/{url(p.stem)}.md', f'# {module}\n\n[{title}](/{url(p.stem)}.ipynb): {prose(promise, module)}\n\n' + '\n'.join(entries))
        lists.append(f"[`{module}`]({url(p.stem)}.md)\n: {', '.join(names)}\n")
        made.append(url(p.stem))
    write(SITE/'api/index.md', '# API reference\n\nAll public names by module, each linked to where it is explained. By the alphabet: '
          '{ref}`genindex`; all modules: {ref}`modindex`.\n\n' + '\n'.join(lists) + '\n' + toctree(*made))

# The whole

def stage_index(about):
    "Write the front page with the side bar's groups; where there is a write-up, both begin with it."
    first = [p for p in about if p.stem.endswith('writeup')]
    groups = {'Start here':[url(p.stem) for p in first]} if first else {}
    for p in about:
        if p not in first: groups.setdefault(CHAPTERS.get(p.stem[0], 'More'), []).append(url(p.stem))
    groups['Records and reference'] = ['record/index', 'api/index', 'changelog']
    bars = '\n'.join(toctree(*entries, caption=c) for c,entries in groups.items())
    found = ''.join(f'\n\n:::{{admonition}} What was found\n:class: tip\n[{about[p][0]}](/{url(p.stem)}.ipynb): {about[p][1]}\n:::' for p in first)
    stage(ROOT/'nbs/index.ipynb', SITE/'index.ipynb', lambda title, promise, nb: f'# {title}\n\n{{.promise}}\n{promise}{found}', tail=bars)

def vendor():
    "Scripts that pages need, beside them: MathJax from its package on PyPI, Jupyter's widgets from npm where a page has some."
    STATIC.mkdir(parents=True)
    shutil.copy(Path(importlib.util.find_spec('mathjax').origin).parent/'static/mathjax/es5/tex-svg.js', STATIC)
    if not any(VIEW in p.read_text(encoding='utf-8') for p in SITE.rglob('*.ipynb')): return
    if not shutil.which('npm'): sys.exit('A page holds widgets, whose scripts come from npm, which is not here: install Node.js, or store the notebook without the state of its widgets.')
    for package,script in WIDGET_SCRIPTS.items():
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(['npm', 'pack', '--silent', package], cwd=folder, stdout=subprocess.PIPE, text=True)
            if done.returncode: sys.exit(f'npm cannot fetch {package}, which a page with widgets needs.')
            with tarfile.open(Path(folder)/done.stdout.split()[-1]) as archive: (STATIC/Path(script).name).write_bytes(archive.extractfile(f'package/{script}').read())

def main():
    "Stage everything anew and let Sphinx draw it; any warning is an error."
    start = time.time()
    for d in (ROOT/'_proc', DOCS): shutil.rmtree(d, ignore_errors=True)
    about = stage_pages()
    stage_records()
    stage_reference(about)
    write(SITE/'changelog.md', prose((ROOT/'CHANGELOG.md').read_text(encoding='utf-8'), base='.'))
    stage_index(about)
    vendor()
    staged = time.time()
    done = subprocess.run([sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-j', 'auto', '-c', 'tools/site', '-d', '_proc/doctrees', SITE, '_proc/html'], cwd=ROOT)
    if done.returncode: sys.exit(done.returncode)
    shutil.move(ROOT/'_proc/html', DOCS)  # myst-nb puts a folder of its own beside what it writes
    (DOCS/'.nojekyll').touch()  # GitHub Pages hides folders with a leading underscore otherwise
    print(f'The site is in _docs/ ({staged - start:.0f} s to stage, {time.time() - staged:.0f} s to draw): open _docs/index.html, or '
          'run `python -m http.server -d _docs` and open http://localhost:8000.')

if __name__ == '__main__': main()
