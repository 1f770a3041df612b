"""Make a folder with Qwen2.5-1.5B's exact shape, random weights and a byte-level BPE tokenizer with its chat template.

    python tools/random_qwen.py FOLDER [--layers 28]

For walking the path of a 1.5B model where its weights cannot be downloaded: the folder loads by `model_name=FOLDER`.
"""
import argparse, random
from pathlib import Path
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from grpo_nb.problems import sample_problem
from grpo_nb.prompts import PROMPT_FORMATS, make_messages

TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")

def make_tokenizer():
    "Byte-level BPE over the prompts of a thousand puzzles: any text encodes, prompts have about the length of Qwen's."
    rng,specials = random.Random(0),['<|endoftext|>', '<|im_start|>', '<|im_end|>']
    texts = [m['content'] for _ in range(1000) for f in PROMPT_FORMATS for m in make_messages(sample_problem(rng, 3, 'train'), f)]
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer,tok.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False),decoders.ByteLevel()
    tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=2000, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, pad_token='<|endoftext|>', eos_token='<|im_end|>')
    fast.chat_template = TEMPLATE
    return fast

def make_model(layers, tok):
    "Qwen2.5-1.5B-Instruct's configuration; weights of standard deviation 0.02, in bfloat16."
    cfg = Qwen2Config(vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=layers, num_attention_heads=12, num_key_value_heads=2,
        max_position_embeddings=32768, rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=True, bos_token_id=tok.pad_token_id, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    return Qwen2ForCausalLM(cfg)

if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('folder', type=Path)
    p.add_argument('--layers', type=int, default=28, help='fewer make a quicker rehearsal')
    a = p.parse_args()
    tok = make_tokenizer()
    model = make_model(a.layers, tok)
    model.save_pretrained(a.folder, max_shard_size='100GB')
    tok.save_pretrained(a.folder)
    print(f'{sum(x.numel() for x in model.parameters()):,} parameters in {a.folder}')
