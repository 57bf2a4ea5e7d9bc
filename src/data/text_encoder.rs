//! The text room's encoder as the rows' encoder.

use super::row::{Encode, Row, supervise_after};
use crate::error::Result;
use crate::text::{Encoder, Tokenized, Tokenizer, TrainOn};

impl Encode for Encoder {
    fn encode(&self, row: &Row) -> Result<Tokenized> {
        match row {
            Row::Conversation(conversation) => self.encode_conversation(conversation),
            Row::Completion { prompt, completion } => {
                let mut full = prompt.clone();
                full.messages.extend(completion.iter().cloned());
                let full = self.encode_conversation(&full)?;
                match self.train_on() {
                    // As TRL without `completion_only_loss`.
                    TrainOn::All => Ok(full),
                    TrainOn::Assistant | TrainOn::LastAssistant => {
                        Ok(supervise_after(full, &self.encode_conversation(prompt)?))
                    }
                }
            }
            Row::PromptCompletion { prompt, completion } => self.encode_prompt_completion(prompt, completion),
            Row::Text(text) => self.encode_text(text),
            Row::Tokens { input_ids, labels } => self.encode_tokens(input_ids.clone(), labels.clone()),
        }
    }

    fn fingerprint(&self) -> String {
        Encoder::fingerprint(self)
    }

    fn stop_tokens(&self) -> Vec<u32> {
        self.stop_ids()
    }

    fn bos(&self) -> Option<u32> {
        self.tokenizer().and_then(Tokenizer::bos)
    }
}
