"The taskset for verifiers 0.4: data, prompt and reward of each puzzle."
from typing import Literal
import verifiers.v1 as vf
from grpo_nb.environment import CountdownEntries
from grpo_nb.rewards import format_ok
from . import _entries

_GRADER = CountdownEntries() # Grading needs nothing but the entry
_MESSAGES = dict(user=vf.UserMessage, assistant=vf.AssistantMessage)

class CountdownData(vf.TaskData):
    "A puzzle and how it is asked."
    nums: list[int]
    target: int
    prompt_format: str
    ops: str
    solution: str
    "One completion that is right; for looking at, since others may be too."

class CountdownTask(vf.Task[CountdownData]):
    "One puzzle, graded by grpo_nb."
    def _grade(self, trace):
        said = trace.assistant_messages
        return _GRADER.grade(said[-1].content if said else '', dict(metadata=self.data.model_dump()))

    @vf.reward
    async def countdown(self, trace: vf.Trace) -> float:
        return self._grade(trace).reward

    @vf.metric
    async def accuracy(self, trace: vf.Trace) -> float:
        return float(self._grade(trace).correct)

    @vf.metric
    async def format_rate(self, trace: vf.Trace) -> float:
        said = trace.assistant_messages
        return float(format_ok(said[-1].content or '' if said else '', self.data.prompt_format, self.data.ops))

    async def validate(self, runtime: vf.Runtime) -> bool:
        return _GRADER.grade(self.data.solution, dict(metadata=self.data.model_dump())).correct

class CountdownTasksetConfig(vf.TasksetConfig):
    "Which puzzles, and how they are asked: the fields of grpo_nb's CountdownConfig."
    num_count: int = 3
    prompt_format: Literal['zero-shot', 'one-shot', 'natural'] = 'zero-shot'
    split: Literal['train', 'heldout', 'parity-train', 'parity-val', 'study'] = 'train'
    n: int | None = 500
    seed: int = 0
    ops: str = '+-*'
    distinct: bool = False

class CountdownTaskset(vf.Taskset[CountdownTask, CountdownTasksetConfig]):
    def load(self):
        c = self.config
        for e in _entries(c.num_count, c.prompt_format, c.split, c.n, c.seed, c.ops, c.distinct):
            m = e['metadata']
            system,*rest = m['messages']
            yield CountdownTask(CountdownData(name=f"{m['nums']} -> {m['target']}", system_prompt=system['content'],
                prompt=[_MESSAGES[x['role']](content=x['content']) for x in rest], nums=m['nums'], target=m['target'],
                prompt_format=m['prompt_format'], ops=m['ops'], solution=e['answer']), c.task)

def load_environment(num_count=3, prompt_format='zero-shot', split='train', n=500, seed=0, ops='+-*', distinct=False):
    "One turn, one answer, one reward: the puzzles with the harness that does nothing but ask."
    asked = dict(id='countdown-nb', num_count=num_count, prompt_format=prompt_format, split=split, n=n, seed=seed, ops=ops, distinct=distinct)
    agent = dict(harness=dict(id='null'), runtime=dict(type='subprocess'), max_turns=1)
    return vf.load_environment(vf.resolve_env_config(dict(taskset=asked, agent=agent)))
