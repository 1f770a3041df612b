// Jupyter's widgets speak to MathJax 2; MathJax 3 answers them.
window.MathJax = Object.assign(window.MathJax || {}, {
  Hub: {Queue() {}},
  startup: {ready() {
    MathJax.startup.defaultReady();
    MathJax.Hub = {Queue: ([, , element]) => MathJax.typesetPromise([element])};
  }}
});
