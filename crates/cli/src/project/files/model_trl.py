"""The base model, as transformers loads it, and its new adapter."""
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig


def load(name, c, dtype):
    config = AutoConfig.from_pretrained(name)
    # Only the adapter has dropout, and no loss but the objective's.
    for key, value in config.to_dict().items():
        if ("drop" in key and isinstance(value, float)) or key == "router_aux_loss_coef":
            setattr(config, key, 0.0)
    if hasattr(config, "output_router_logits"):
        config.output_router_logits = False
    more = {}
    if c["load_in_4bit"]:
        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(name, config=config, dtype=dtype, **more)
    return model, tokenizer_of(name), {"peft_config": LoraConfig(task_type="CAUSAL_LM", **c["lora"])}


def tokenizer_of(name):
    tokenizer = AutoTokenizer.from_pretrained(name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer
