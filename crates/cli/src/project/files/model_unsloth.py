"""The base model and its new adapter, as Unsloth loads them."""
import unsloth  # Before transformers and TRL.



def load(name, c, dtype):
    model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
        name, max_seq_length=c["max_seq_len"], dtype=dtype, load_in_4bit=c["load_in_4bit"], full_finetuning=False)
    model = unsloth.FastLanguageModel.get_peft_model(
        model, max_seq_length=c["max_seq_len"], random_state=c["seed"],
        use_gradient_checkpointing="unsloth" if c["gradient_checkpointing"] else False, **c["lora"])
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return model, tokenizer, {}
