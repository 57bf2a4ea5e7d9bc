//! What other programs refuse or get wrong about an adapter, told right after training.

use crate::adapter::peft::AdapterConfig;

/// Ranks that vLLM's `--max-lora-rank` can be set to.
const VLLM_MAX_RANKS: [usize; 9] = [1, 8, 16, 32, 64, 128, 256, 320, 512];

/// The value of `--max-lora-rank` when vLLM is not told one.
const VLLM_DEFAULT_MAX_RANK: usize = 16;

/// One thing to know before handing the adapter to another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The program.
    pub tool: &'static str,
    /// What it refuses or gets wrong.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// What decides whether vLLM serves an adapter, beside its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedBase<'a> {
    /// The architecture of the base.
    pub architecture: &'a str,
    /// Whether the base also sees or hears.
    pub multimodal: bool,
    /// Whether the base is a GGUF file.
    pub is_gguf: bool,
    /// Whether the adapter's names are those of a base that also sees or hears.
    pub named_multimodal: bool,
    /// Whether the adapter is on towers.
    pub on_towers: bool,
}

/// What vLLM makes of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// What it refuses, or applies otherwise than it was trained.
    pub notes: Vec<Note>,
    /// The options that it needs.
    pub flags: Vec<String>,
}

/// Everything that vLLM refuses or ignores of an adapter, and what it has to be started with.
///
/// # Source
/// vLLM 0.11: `vllm/lora/peft_helper.py`, `vllm/lora/models.py`, `vllm/config/lora.py`; vLLM itself was not run.
pub fn vllm(config: &AdapterConfig, base: ServedBase) -> Served {
    let mut notes: Vec<Note> = notes(config).into_iter().filter(|note| note.tool == "vLLM").collect();
    // What a flag allows is no problem.
    let largest = largest_rank(config);
    let allowed = VLLM_MAX_RANKS.iter().find(|max| **max >= largest);
    notes.retain(|note| allowed.is_none() || !note.advice.starts_with("start it with"));
    let mut add = |what: &str, advice: &str| {
        notes.push(Note { tool: "vLLM", what: what.to_owned(), advice: advice.to_owned() });
    };
    if base.architecture.starts_with("gemma3n") {
        add("takes no adapters for Gemma 3n", MERGE);
    }
    if base.on_towers {
        add("ignores what an adapter changes in towers: only the language model is adapted", MERGE);
    }
    if base.named_multimodal != base.multimodal {
        let [names, of] =
            [base.named_multimodal, base.multimodal].map(|is| if is { "multimodal" } else { "text-only" });
        let what =
            format!("does not find the modules: the adapter has the names of a {names} model, and the base is {of}");
        add(&what, "train on the very model that is served, or merge with `gemma-tune merge`");
    }
    if base.is_gguf {
        let advice = "serve it on the folder that the file was made from, or merge it with `gemma-tune merge`";
        add("serves adapters on a Hugging Face folder, and the base is a GGUF file", advice);
    }
    let rank = allowed.filter(|_| largest > VLLM_DEFAULT_MAX_RANK).map(|max| format!("--max-lora-rank {max}"));
    Served { notes, flags: ["--enable-lora".to_owned()].into_iter().chain(rank).collect() }
}

/// What to do about nearly everything.
const MERGE: &str = "merge it into the base with `gemma-tune merge` and use the merged folder";

/// The largest rank of an adapter's modules.
fn largest_rank(config: &AdapterConfig) -> usize {
    config.rank_pattern.iter().map(|(_, r)| *r).chain([config.r]).max().unwrap_or(config.r)
}

/// Everything that vLLM and llama.cpp would refuse, or apply wrongly without a word.
pub fn notes(config: &AdapterConfig) -> Vec<Note> {
    let mut notes = Vec::new();
    let merged = MERGE;
    let mut add = |tool, what: String, advice: String| notes.push(Note { tool, what, advice });
    if config.use_dora {
        add("vLLM", "refuses DoRA adapters".into(), merged.into());
        add("llama.cpp", "`convert_lora_to_gguf.py` refuses DoRA adapters".into(), merged.into());
    }
    if !config.modules_to_save.is_empty() {
        let modules = config.modules_to_save.join("`, `");
        add("vLLM", format!("refuses modules that are saved whole (`{modules}`)"), merged.into());
    }
    let largest = largest_rank(config);
    match VLLM_MAX_RANKS.iter().find(|max| **max >= largest) {
        Some(_) if largest <= VLLM_DEFAULT_MAX_RANK => {}
        Some(max) => add(
            "vLLM",
            format!("refuses rank {largest} unless it is allowed"),
            format!("start it with `--max-lora-rank {max}`"),
        ),
        None => add("vLLM", format!("refuses rank {largest}; the largest it can allow is 512"), merged.into()),
    }
    if !config.rank_pattern.is_empty() || !config.alpha_pattern.is_empty() {
        add(
            "vLLM",
            "ignores `rank_pattern` and `alpha_pattern`, so some modules get a wrong scale".into(),
            merged.into(),
        );
    }
    if config.use_rslora {
        add(
            "llama.cpp",
            "`convert_lora_to_gguf.py` ignores `use_rslora`, so the adapter would act with a wrong scale".into(),
            merged.into(),
        );
    }
    if !config.alpha_pattern.is_empty() {
        add("llama.cpp", "`convert_lora_to_gguf.py` ignores `alpha_pattern`".into(), merged.into());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::target::TargetModules;

    fn config(r: usize) -> AdapterConfig {
        AdapterConfig::new(r, 32.0, TargetModules::AllLinear)
    }

    fn shown(config: &AdapterConfig) -> Vec<String> {
        notes(config).into_iter().map(|n| format!("{} {}: {}", n.tool, n.what, n.advice)).collect()
    }

    #[test]
    fn an_everyday_adapter_has_no_notes() {
        assert_eq!(shown(&config(16)), Vec::<String>::new());
        assert_eq!(shown(&config(12)), Vec::<String>::new());
    }

    #[test]
    fn ranks_are_compared_with_what_vllm_allows() {
        assert_eq!(
            shown(&config(24)),
            ["vLLM refuses rank 24 unless it is allowed: start it with `--max-lora-rank 32`"]
        );
        assert!(shown(&config(1000))[0].contains("largest it can allow is 512"));
        let patterned = AdapterConfig { rank_pattern: vec![("q_proj".into(), 64)], ..config(8) };
        assert!(shown(&patterned)[0].ends_with("`--max-lora-rank 64`"));
        assert!(shown(&patterned)[1].contains("ignores `rank_pattern`"));
    }

    #[test]
    fn what_vllm_makes_of_an_adapter_is_told_with_its_flags() {
        let plain = ServedBase {
            architecture: "gemma3_text",
            multimodal: false,
            is_gguf: false,
            named_multimodal: false,
            on_towers: false,
        };
        let of = |config: &AdapterConfig, base| {
            let Served { notes, flags } = vllm(config, base);
            (notes.into_iter().map(|note| note.what).collect::<Vec<_>>(), flags.join(" "))
        };
        assert_eq!(of(&config(8), plain), (vec![], "--enable-lora".to_owned()));
        assert_eq!(of(&config(24), plain), (vec![], "--enable-lora --max-lora-rank 32".to_owned()));
        assert_eq!(of(&config(300), plain).1, "--enable-lora --max-lora-rank 320");
        let (large, flags) = of(&config(513), plain);
        assert!(large[0].contains("the largest it can allow is 512") && flags == "--enable-lora", "{large:?}");
        let whole = AdapterConfig { use_dora: true, modules_to_save: vec!["lm_head".into()], ..config(8) };
        let (refused, _) = of(&whole, plain);
        assert_eq!(refused, ["refuses DoRA adapters", "refuses modules that are saved whole (`lm_head`)"]);
        let other = ServedBase {
            architecture: "gemma3n",
            multimodal: true,
            is_gguf: true,
            named_multimodal: false,
            on_towers: true,
        };
        let (said, _) = of(&config(8), other);
        for part in ["Gemma 3n", "in towers", "names of a text-only model, and the base is multimodal", "GGUF file"] {
            assert!(said.iter().any(|what| what.contains(part)), "{part}: {said:?}");
        }
        // A scale of its own per module is what vLLM would get wrong without a word; rsLoRA it knows.
        let patterned = AdapterConfig { alpha_pattern: vec![("q_proj".into(), 4.0)], ..config(8) };
        assert!(of(&patterned, plain).0[0].contains("wrong scale"));
        assert!(of(&AdapterConfig { use_rslora: true, ..config(8) }, plain).0.is_empty());
    }

    #[test]
    fn dora_and_rslora_name_the_programs_that_cannot_use_them() {
        let dora = AdapterConfig { use_dora: true, ..config(16) };
        assert_eq!(notes(&dora).iter().map(|n| n.tool).collect::<Vec<_>>(), ["vLLM", "llama.cpp"]);
        let rslora = AdapterConfig { use_rslora: true, ..config(16) };
        assert_eq!(notes(&rslora).len(), 1);
        assert!(notes(&rslora)[0].what.contains("wrong scale"));
    }
}
