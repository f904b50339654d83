"""Trains the tokenizer on the corpus: BPE of 4,096 with bytes below it, digits one by one.

`python -m serve_app.demo.training.text.tokenizer FOLDER [EXAMPLES]` (a minute on one core).
"""

from __future__ import annotations

import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from serve_app.demo.training.text.corpus import draw_examples
from serve_app.demo.training.text.words import require_words

VOCABULARY = 4096
CONTEXT = 1536
"""Tokens of prompt and answer together: the longest windows that are trained."""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
SEED = 424242


def train_tokenizer(examples: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 3, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator((prompt + answer for prompt, answer in draw_examples(SEED, examples)), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|eos|>",
        pad_token="<|pad|>",
        mask_token="<|mask|>",
        model_max_length=CONTEXT,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


if __name__ == "__main__":
    require_words()
    made = train_tokenizer(int(sys.argv[2]) if len(sys.argv) > 2 else 200_000)
    made.save_pretrained(Path(sys.argv[1]))
    print(len(made), made.eos_token_id, made.pad_token_id, made.mask_token_id)
