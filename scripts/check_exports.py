"""Checks an adapter folder, and a merged folder, with transformers and PEFT: what users' programs will see.

    python scripts/check_exports.py BASE ADAPTER [MERGED]

BASE is a Hugging Face model folder or id. Fails on any key that PEFT misses or does not expect, on any warning of theirs
about the folders, and if merged and adapter disagree by more than rounding. A model that sees or hears is asked about a random
picture and a random sound too, so that adapters on towers and a projector that is trained whole count. Made with transformers 5.23.0, peft 0.21.2.
"""

import logging
import sys
import warnings

import torch
import transformers
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

logged = []


class Collect(logging.Handler):
    def emit(self, record):
        if record.levelno >= logging.WARNING:
            logged.append(record.getMessage())


def load(path, **options):
    multimodal = hasattr(AutoConfig.from_pretrained(path), "vision_config")
    kind = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
    model, report = kind.from_pretrained(path, output_loading_info=True, **options)
    problems = {key: value for key, value in report.items() if value}
    assert not problems, f"{path}: {problems}"
    return model.eval()


def words_and_media(config):
    """Two rows of random words, and with them a picture and a sound where the model takes them."""
    text = config.get_text_config()
    hears, sees = hasattr(config, "audio_config"), hasattr(config, "vision_config")
    known = getattr(text, "vocab_size_per_layer_input", text.vocab_size) if hears else text.vocab_size
    ids = torch.randint(3, known - 8, (2, 32))
    media = {}

    def insert(begin, soft, count, end):
        return torch.cat([ids[:, :4], torch.tensor([begin] + [soft] * count + [end]).expand(2, -1), ids[:, 4:]], 1)

    if sees and not hears:
        ids = insert(config.boi_token_index, config.image_token_index, config.mm_tokens_per_image, config.eoi_token_index)
        media["token_type_ids"] = (ids == config.image_token_index).long()
        side = config.vision_config.image_size
        media["pixel_values"] = torch.rand(2, 3, side, side) * 2 - 1
    if hears:
        ids = insert(config.boi_token_id, config.image_token_id, config.vision_soft_tokens_per_image, config.eoi_token_id)
        ids = insert(config.boa_token_id, config.audio_token_id, config.audio_soft_tokens_per_image, config.eoa_token_id)
        media["pixel_values"] = torch.rand(2, 3, 64, 64)
        media["input_features"] = torch.randn(2, 70, config.audio_config.input_feat_size)
        media["input_features_mask"] = torch.ones(2, 70, dtype=torch.bool)
    return {"input_ids": ids, **media}


def main():
    base, adapter, merged = (sys.argv + [None])[1:4]
    transformers.logging.disable_progress_bar()
    logging.getLogger("transformers").addHandler(Collect())
    with warnings.catch_warnings(record=True) as warned, torch.no_grad():
        warnings.simplefilter("always")
        # PEFT 0.21 itself uses a name that transformers 5.23 is about to change: no fault of the folder's.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        model = load(base, dtype=torch.float32)
        torch.manual_seed(0)
        inputs = words_and_media(model.config)
        before = model(**inputs).logits
        model = PeftModel.from_pretrained(model, adapter)
        tensors = load_file(f"{adapter}/adapter_model.safetensors")
        result = set_peft_model_state_dict(model, tensors)
        missing = [key for key in result.missing_keys if "lora_" in key or "modules_to_save" in key]
        assert not missing and not result.unexpected_keys, (missing, result.unexpected_keys)
        kept = get_peft_model_state_dict(model, save_embedding_layers=False)
        assert kept.keys() == tensors.keys(), kept.keys() ^ tensors.keys()
        adapted = model(**inputs).logits
        scale = adapted.abs().max().item()
        print(f"adapter: {len(tensors)} tensors; changes logits by up to {(adapted - before).abs().max():.3g} of {scale:.3g}")
        if merged:
            other = load(merged)
            dtype = other.dtype
            bar = 1e-5 if dtype == torch.float32 else 0.1
            gap = (other.float()(**inputs).logits - adapted).abs().max().item() / scale
            print(f"merged ({dtype}): relative gap to the adapter {gap:.3g}, at most {bar:g}")
            assert gap <= bar
            theirs = model.merge_and_unload().state_dict()
            ours = other.state_dict()
            assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
            gap = max((ours[key].float() - theirs[key].float()).abs().max().item() for key in ours)
            print(f"merged against merge_and_unload: largest difference of a weight {gap:.3g}")
    assert not logged and not warned, (logged, [str(w.message) for w in warned])
    print("ok")


main()
