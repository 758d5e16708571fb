"""One peer, one figure: QLoRA throughput of a TinyLlama-shaped model on the GPU at hand.

    python -m tests.benchmarks.peers padded|trl|unsloth [--micro-batch 16] [--checkpointing] [--no-packing] … [--out FILE]

Needs trl, and unsloth for its variant; what makes trl fast, `--attention flash_attention_4 --liger`, needs flash-attn-4 and
liger-kernel. Prints `RESULT {json}`; with `--out` adds it to the list `peers` of a JSON file, which `tests.benchmarks.train_step
--peers` reads. `tok_s` counts real (not padding) tokens between the end of the warm-up steps and the last step. The work is the
same for every variant: same weights, same token rows, same LoRA, same optimizer. What it does not do: judge quality of the
trained weights (the rows are random tokens).
"""

import argparse
import json
import os
import random
import time
from pathlib import Path

os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", UNSLOTH_DISABLE_STATISTICS="1")

SHAPES = {  # hidden, intermediate, layers, heads, kv heads, vocabulary
    "tinyllama-1.1b": (2048, 5632, 22, 32, 4, 32_000),
    "smollm2-135m": (576, 1536, 30, 9, 3, 49_152),
}
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=["padded", "trl", "unsloth"])
    parser.add_argument("--shape", choices=SHAPES, default="tinyllama-1.1b")
    parser.add_argument("--seq", type=int, default=1024, help="max_seq_len, tokens")
    parser.add_argument("--micro-batch", type=int, default=16, help="sequences")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--warm-up", type=int, default=4, help="steps not counted")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--no-packing", action="store_true")
    parser.add_argument("--all-linear", action="store_true", help="adapt the MLP projections too")
    parser.add_argument("--attention", default="sdpa", help="padded and trl: flash_attention_4 where flash-attn-4 is installed")
    parser.add_argument("--liger", action="store_true", help="Liger kernels (padded and trl)")
    parser.add_argument("--memory-gib", type=float, default=0, help="cap the process at this much GPU memory")
    parser.add_argument("--out", type=Path, help="JSON file to add the result to")
    parser.add_argument("--model-dir", default="peer-model", help="folder for the generated weights")
    return parser.parse_args()


args = arguments()
if args.variant == "unsloth":
    import unsloth

import torch  # noqa: E402
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed  # noqa: E402


def make_model(folder):
    """Random weights of the chosen shape and a word-level tokenizer of its vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    hidden, intermediate, layers, heads, kv_heads, vocabulary = SHAPES[args.shape]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    words = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<pad>"
    )
    fast.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    fast.save_pretrained(folder)


def rows(count):
    """Token rows with the lengths of chat: log-normal, median about 220 tokens, cut at --seq."""
    lengths, tokens = random.Random(1), random.Random(2)
    vocabulary = SHAPES[args.shape][-1]
    for _ in range(count):
        n = max(16, min(args.seq, int(lengths.lognormvariate(5.4, 0.9))))
        yield [tokens.randrange(3, vocabulary) for _ in range(n - 1)] + [2]


class Clock(TrainerCallback):
    """Wall time and real tokens at the end of every optimizer step."""

    def __init__(self):
        self.tokens = 0
        self.ticks = []

    def on_step_end(self, *_, **__):
        torch.cuda.synchronize()
        self.ticks.append((time.perf_counter(), self.tokens))
        if len(self.ticks) == args.warm_up:
            torch.cuda.reset_peak_memory_stats()

    def watch(self, trainer):
        step = trainer.training_step

        def counted(model, inputs, *rest, **named):
            mask, labels = inputs.get("attention_mask"), inputs.get("labels")
            if labels is not None:
                self.tokens += int((labels != -100).sum())
            elif mask is not None and mask.dim() == 2:
                self.tokens += int(mask.sum())
            else:
                self.tokens += inputs["input_ids"].numel()
            return step(model, inputs, *rest, **named)

        trainer.training_step = counted
        trainer.add_callback(self)
        return trainer


def training_arguments(cls=TrainingArguments, **more):
    return cls(
        output_dir="peer-out",
        per_device_train_batch_size=args.micro_batch,
        gradient_accumulation_steps=args.accumulate,
        max_steps=args.steps,
        learning_rate=2e-4,
        lr_scheduler_type="cosine",
        bf16=True,
        optim="adamw_torch_fused",
        logging_steps=50,
        save_strategy="no",
        report_to=[],
        dataloader_num_workers=2,
        remove_unused_columns=False,
        gradient_checkpointing=args.checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if args.checkpointing else None,
        **more,
    )


def hugging_face_model(folder, targets):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quantized = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=quantized, dtype=torch.bfloat16, attn_implementation=args.attention, device_map={"": 0}
    )
    model.config.use_cache = False
    if args.liger:
        from liger_kernel.transformers import apply_liger_kernel_to_llama

        apply_liger_kernel_to_llama(model=model)
    model.requires_grad_(False)
    if args.checkpointing:
        model.enable_input_require_grads()
    return get_peft_model(model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM"))


def padded_batch(batch):
    """Every row padded to --seq; padding masked in attention and loss."""
    ids = torch.zeros(len(batch), args.seq, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, row in enumerate(batch):
        n = len(row["input_ids"])
        ids[i, :n] = labels[i, :n] = torch.tensor(row["input_ids"])
        mask[i, :n] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def trainer_for(variant, folder, token_rows, targets):
    if variant == "padded":
        data = [{"input_ids": row} for row in token_rows]
        return Trainer(
            model=hugging_face_model(folder, targets), args=training_arguments(), train_dataset=data, data_collator=padded_batch
        )
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_list([{"input_ids": row} for row in token_rows])
    packing = not args.no_packing
    if variant == "trl":
        settings = training_arguments(SFTConfig, max_length=args.seq, packing=packing)
        return SFTTrainer(model=hugging_face_model(folder, targets), train_dataset=data, args=settings)
    model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
        folder, max_seq_length=args.seq, dtype=torch.bfloat16, load_in_4bit=True, local_files_only=True
    )
    model = unsloth.FastLanguageModel.get_peft_model(
        model,
        r=16,
        lora_alpha=32,
        lora_dropout=0.0,
        target_modules=targets,
        bias="none",
        use_gradient_checkpointing="unsloth" if args.checkpointing else False,
    )
    settings = SFTConfig(
        output_dir="peer-out",
        per_device_train_batch_size=args.micro_batch,
        gradient_accumulation_steps=args.accumulate,
        max_steps=args.steps,
        learning_rate=2e-4,
        lr_scheduler_type="cosine",
        bf16=True,
        optim="adamw_torch_fused",
        logging_steps=50,
        save_strategy="no",
        report_to=[],
        max_length=args.seq,
        packing=packing,
        dataset_num_proc=4,
    )
    return SFTTrainer(model=model, processing_class=tokenizer, train_dataset=data, args=settings)


def main():
    folder = f"{args.model_dir}-{args.shape}"
    if not os.path.exists(folder):
        make_model(folder)
    set_seed(0)
    targets = ATTENTION + (MLP if args.all_linear else [])
    per_row = 1 if (args.variant == "padded" or args.no_packing) else 8  # packing folds several rows into one
    count = min(args.micro_batch * args.accumulate * (args.steps + 2) * per_row, 60_000)
    clock = Clock()
    trainer = clock.watch(trainer_for(args.variant, folder, rows(count), targets))
    if args.memory_gib:
        total = torch.cuda.get_device_properties(0).total_memory / 2**30
        torch.cuda.set_per_process_memory_fraction(args.memory_gib / total)
    loss = trainer.train().training_loss
    (start, before), (end, after) = clock.ticks[args.warm_up - 1], clock.ticks[-1]
    result = {
        **{name: value for name, value in vars(args).items() if name not in ("out", "model_dir")},
        "tok_s": round((after - before) / (end - start)),
        "step_s": round((end - start) / (len(clock.ticks) - args.warm_up), 3),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2), "loss": round(loss, 3),
        "gpu": torch.cuda.get_device_name(), "torch": torch.__version__,
    }  # fmt: skip
    print("RESULT " + json.dumps(result))
    if args.out:
        known = json.loads(args.out.read_text())["peers"] if args.out.exists() else []
        args.out.write_text(json.dumps({"peers": [*known, result]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
