"Sphinx's settings for the site; tools/docs.py writes the pages and calls it."
import configparser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ini = configparser.ConfigParser()
ini.read(ROOT/'settings.ini')
project, author, copyright, version = (ini['DEFAULT'][k] for k in ('title', 'author', 'copyright', 'version'))
html_title, html_short_title, html_baseurl = project, project, ini['DEFAULT']['doc_host'] + ini['DEFAULT']['doc_baseurl'] + '/'

extensions = ['myst_nb', 'sphinx_copybutton']
myst_enable_extensions = ['amsmath', 'attrs_block', 'attrs_inline', 'colon_fence', 'deflist', 'dollarmath']
myst_heading_anchors = 4
nb_execution_mode = 'off'  # outputs are stored in the notebooks
nb_merge_streams = True
nb_render_markdown_format = 'myst'
nb_ipywidgets_js = {'require.js':{}, 'embed-amd.js':{}}

html_theme = 'furo'
html_static_path = [str(ROOT/'tools/site/static'), str(ROOT/'_proc/static')]
html_css_files = ['site.css']
html_copy_source = html_show_sourcelink = False
mathjax_path, mathjax_config_path = 'tex-svg.js', 'mathjax.js'
add_module_names = False
maximum_signature_line_length = 100
pygments_style, pygments_dark_style = 'friendly', 'monokai'
