//! Answering in turns: what was read in earlier turns is not read again.

use crate::infer::generate::{FinishReason, Generated, GenerationSettings, generate_cached};
use crate::model::{Inputs, LanguageModel};
use crate::nn::{KvCache, SidePath};
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

/// One speaker, a model with what runs beside it, and what it remembers of the conversation so far.
pub struct Dialogue<'a> {
    model: &'a dyn LanguageModel,
    side: &'a dyn SidePath,
    /// The tokens whose keys and values are in `cache`.
    ids: Vec<u32>,
    /// What the soft tokens among them show.
    contents: Vec<[u8; 32]>,
    cache: KvCache,
}

impl<'a> Dialogue<'a> {
    /// A speaker that remembers nothing yet.
    pub fn new(model: &'a dyn LanguageModel, side: &'a dyn SidePath) -> Self {
        Dialogue { model, side, ids: Vec::new(), contents: Vec::new(), cache: model.cache(1) }
    }

    /// Answers `prompt`, the whole conversation so far, of text. Where it begins with all that is remembered, only the rest is
    /// read. Else everything is read anew: sliding layers keep only their window, so the memory cannot be cut back.
    pub fn answer(
        &mut self,
        prompt: &[u32],
        settings: &GenerationSettings,
        on_token: impl FnMut(u32) -> ControlFlow<()>,
    ) -> Generated {
        self.answer_unless(&AtomicBool::new(false), &Inputs::of(prompt.to_vec()), &[], settings, on_token)
    }

    /// [`Dialogue::answer`], ended once `stop` is set: with what has been said until then. The soft tokens of `prompt` show
    /// `contents`, by a hash of each.
    pub fn answer_unless(
        &mut self,
        stop: &AtomicBool,
        prompt: &Inputs,
        contents: &[[u8; 32]],
        settings: &GenerationSettings,
        mut on_token: impl FnMut(u32) -> ControlFlow<()>,
    ) -> Generated {
        let tokens = prompt.input_ids.len();
        let goes_on = prompt.input_ids.starts_with(&self.ids) && contents.starts_with(&self.contents);
        let new = match goes_on && self.ids.len() < tokens {
            true => prompt.slice(self.ids.len()..tokens),
            false => {
                self.cache = self.model.cache(1);
                prompt.clone()
            }
        };
        let answers =
            generate_cached(self.model, self.side, &[new], &mut self.cache, settings, stop, &mut |_, token| {
                on_token(token)
            });
        let nothing = Generated { tokens: Vec::new(), finish_reason: FinishReason::Length };
        let answer = answers.into_iter().next().unwrap_or(nothing);
        // The last token of an answer that was cut off has been said, but not read.
        self.ids = [&prompt.input_ids, answer.tokens.as_slice()].concat();
        self.ids.truncate(self.cache.lengths[0]);
        let read = prompt.soft_tokens.iter().take_while(|soft| soft.rows.end <= self.ids.len()).count();
        self.contents = contents.iter().take(read).copied().collect();
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::{Sampling, generate};
    use crate::model::{self, ModelConfig};
    use crate::nn::BaseOnly;
    use crate::ops::Weight;
    use crate::progress::Silent;
    use crate::testkit::golden;
    use crate::weights::{Holding, Source};
    use burn::tensor::{Device, Tensor};
    use std::cell::Cell;

    /// No adapter; counts the tokens that go through the model.
    struct Count(Cell<usize>);

    impl SidePath for Count {
        fn project(&self, site: usize, x: Tensor<2>, base: &Weight) -> Tensor<2> {
            if site == 0 {
                self.0.set(self.0.get() + x.dims()[0]);
            }
            base.project(x)
        }
    }

    /// A model of 7 layers, six of them with a window of 8 tokens.
    fn model() -> Box<dyn LanguageModel> {
        let folder = golden::folder("model/lora/model");
        let (config, _) = ModelConfig::from_folder(&folder).unwrap();
        model::load(config, &Source::open_folder(&folder).unwrap(), &Holding::default(), &Device::flex(), &Silent)
            .unwrap()
    }

    fn settings(max_new_tokens: usize, stop: &[u32]) -> GenerationSettings {
        GenerationSettings { max_new_tokens, sampling: Sampling::GREEDY, stop: stop.to_vec(), seed: 1, first_prompt: 0 }
    }

    fn go_on(_: u32) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn a_turn_reads_only_what_is_new_and_says_the_same() {
        let model = model();
        let read = Count(Cell::new(0));
        let mut dialogue = Dialogue::new(&*model, &read);
        let mut turn =
            |prompt: &[u32], settings: &GenerationSettings| {
                let answer = dialogue.answer(prompt, settings, go_on);
                let scratch = generate(&*model, &BaseOnly, &[Inputs::of(prompt.to_vec())], settings, |_, _| {
                    ControlFlow::Continue(())
                });
                assert_eq!(answer, scratch[0]);
                (answer.tokens, read.0.replace(0))
            };

        let first: Vec<u32> = (2..14).collect();
        let (said, tokens) = turn(&first, &settings(6, &[]));
        assert_eq!((said.len(), tokens), (6, 12 + 5), "the last token is said, not read");
        let second = [first.as_slice(), &said, &[30, 31, 32]].concat();
        let (said, tokens) = turn(&second, &settings(6, &[]));
        assert_eq!(
            (said.len(), tokens),
            (6, 1 + 3 + 5),
            "the last token of the first answer, the question, the answer"
        );
    }

    #[test]
    fn an_answer_that_ends_by_itself_is_remembered_whole() {
        let model = model();
        let read = Count(Cell::new(0));
        let prompt = [2, 30, 31];
        let sampled = |stop| GenerationSettings {
            sampling: Sampling { temperature: 3.0, top_k: 0, top_p: 1.0 },
            ..settings(4, stop)
        };
        let free = Dialogue::new(&*model, &BaseOnly).answer(&prompt, &sampled(&[]), go_on).tokens;
        assert!(!free[..2].contains(&free[2]), "{free:?}");
        let mut dialogue = Dialogue::new(&*model, &read);
        let answer = dialogue.answer(&prompt, &sampled(&[free[2]]), go_on);
        assert_eq!((answer.tokens.as_slice(), answer.finish_reason), (&free[..2], FinishReason::Stop));
        assert_eq!(read.0.replace(0), 3 + 2);
        dialogue.answer(&[&prompt, &free[..2], &[106, 9]].concat(), &settings(1, &[]), go_on);
        assert_eq!(read.0.get(), 2);
    }

    #[test]
    fn another_past_is_read_from_its_beginning() {
        let model = model();
        let read = Count(Cell::new(0));
        let mut dialogue = Dialogue::new(&*model, &read);
        let one = settings(1, &[]);
        let prompt: Vec<u32> = (2..22).collect();
        dialogue.answer(&prompt, &one, go_on);
        let mut edited = prompt.clone();
        edited[3] = 99;
        edited.push(7);
        for prompt in [&prompt[..], &edited, &edited[..5]] {
            read.0.set(0);
            let answer = dialogue.answer(prompt, &one, go_on);
            assert_eq!(read.0.get(), prompt.len());
            let scratch =
                generate(&*model, &BaseOnly, &[Inputs::of(prompt.to_vec())], &one, |_, _| ControlFlow::Continue(()));
            assert_eq!(answer, scratch[0]);
        }
        // Nothing asked, nothing said; the next turn starts from nothing.
        assert_eq!(dialogue.answer(&[], &one, go_on).tokens, [0_u32; 0]);
        read.0.set(0);
        dialogue.answer(&prompt, &one, go_on);
        assert_eq!(read.0.get(), prompt.len());
    }

    #[test]
    fn a_question_that_is_stopped_is_remembered_as_far_as_it_was_read() {
        let model = model();
        let read = Count(Cell::new(0));
        let mut dialogue = Dialogue::new(&*model, &read);
        let prompt: Vec<u32> = (0..600).map(|i| 2 + i % 300).collect();
        let stopped =
            dialogue.answer_unless(&AtomicBool::new(true), &Inputs::of(prompt.clone()), &[], &settings(4, &[]), go_on);
        assert_eq!((stopped.tokens.len(), read.0.replace(0)), (0, 0));
        let answer = dialogue.answer(&prompt, &settings(1, &[]), go_on);
        let scratch =
            generate(&*model, &BaseOnly, &[Inputs::of(prompt)], &settings(1, &[]), |_, _| ControlFlow::Continue(()));
        assert_eq!(answer, scratch[0]);
    }

    #[test]
    fn an_interrupted_answer_is_remembered_as_far_as_it_was_read() {
        let model = model();
        let read = Count(Cell::new(0));
        let mut dialogue = Dialogue::new(&*model, &read);
        let mut left = 3;
        let answer = dialogue.answer(&[2, 5, 8], &settings(9, &[]), |_| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((answer.tokens.len(), dialogue.ids.len(), read.0.get()), (3, 5, 5));
    }
}
