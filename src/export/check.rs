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

/// Everything that vLLM and llama.cpp would refuse, or apply wrongly without a word.
pub fn notes(config: &AdapterConfig) -> Vec<Note> {
    let mut notes = Vec::new();
    let merged = "merge it into the base with `gemma-tune merge` and use the merged folder";
    let mut add = |tool, what: String, advice: String| notes.push(Note { tool, what, advice });
    if config.use_dora {
        add("vLLM", "refuses DoRA adapters".into(), merged.into());
        add("llama.cpp", "`convert_lora_to_gguf.py` refuses DoRA adapters".into(), merged.into());
    }
    let largest = config.rank_pattern.iter().map(|(_, r)| *r).chain([config.r]).max().unwrap_or(config.r);
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
    fn dora_and_rslora_name_the_programs_that_cannot_use_them() {
        let dora = AdapterConfig { use_dora: true, ..config(16) };
        assert_eq!(notes(&dora).iter().map(|n| n.tool).collect::<Vec<_>>(), ["vLLM", "llama.cpp"]);
        let rslora = AdapterConfig { use_rslora: true, ..config(16) };
        assert_eq!(notes(&rslora).len(), 1);
        assert!(notes(&rslora)[0].what.contains("wrong scale"));
    }
}
