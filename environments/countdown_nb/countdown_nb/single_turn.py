"The environment for verifiers 0.1: a dataset of conversations, and a rubric."
import json
import verifiers as vf
from datasets import Dataset
from grpo_nb.environment import CountdownEntries
from . import _disjoint, _entries

_GRADER = CountdownEntries() # Grading needs nothing but the entry

def _dataset(entries):
    return Dataset.from_list([dict(prompt=e['metadata']['messages'], answer=e['answer'], info=json.dumps({k:v for k,v in e['metadata'].items() if k != 'messages'})) for e in entries])

def _grade(completion, info):
    said = [m for m in completion if (m['role'] if isinstance(m, dict) else m.role) == 'assistant']
    text = (said[-1]['content'] if isinstance(said[-1], dict) else said[-1].content) if said else ''
    return _GRADER.grade(text, dict(metadata=json.loads(info) if isinstance(info, str) else info))

async def countdown(completion, info) -> float: return _grade(completion, info).reward
async def accuracy(completion, info) -> float: return float(_grade(completion, info).correct)

def load_environment(num_count=3, prompt_format='zero-shot', split='train', n=500, seed=0, ops='+-*', eval_split='heldout', eval_n=None, eval_seed=142):
    "One turn, one answer, one reward: puzzles to train on, and the fixed ones of an evaluation."
    if not _disjoint(split, eval_split):
        raise ValueError(f'eval_split should have no numbers in common with split {split!r} (train and heldout, parity-train and parity-val), got {eval_split!r}')
    return vf.SingleTurnEnv(dataset=_dataset(_entries(num_count, prompt_format, split, n, seed, ops, False)),
        eval_dataset=_dataset(_entries(num_count, prompt_format, eval_split, eval_n, eval_seed, ops, True)),
        rubric=vf.Rubric(funcs=[countdown, accuracy], weights=[1., 0.]))
