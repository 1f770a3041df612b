"Countdown as grpo_nb trains and grades it, for trainers that are built on verifiers."
from importlib.metadata import version
if version('verifiers').startswith(('0.2.', '0.3.')): # Neither of the two interfaces below
    raise ImportError(f"verifiers should be of 0.1 (from 0.1.14) or 0.4 and later for countdown_nb, got {version('verifiers')}; `pip install 'verifiers>=0.4'` brings one")
import verifiers
from grpo_nb.environment import CountdownEntries

def _entries(num_count, prompt_format, split, n, seed, ops, distinct):
    return CountdownEntries(num_count=num_count, prompt_format=prompt_format, split=split, size=n, seed=seed, ops=ops, distinct=distinct)

def _disjoint(split, eval_split):
    "Whether no puzzle of the one has the numbers of a puzzle of the other."
    return {split, eval_split} in ({'train', 'heldout'}, {'parity-train', 'parity-val'})

if hasattr(verifiers, 'SingleTurnEnv'): # Up to 0.1
    from .single_turn import load_environment
    __all__ = ['load_environment']
else: # Tasksets, since 0.4
    from .taskset import CountdownTaskset, load_environment
    __all__ = ['CountdownTaskset', 'load_environment']
