//! Places of texts, as OpenAI's API asks for them.

use super::asked::Texts;
use super::fields::{Fields, few};
use crate::serve::refusal::Refusal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// The most texts of a request, as of OpenAI.
const MOST_INPUTS: usize = 2048;

/// What is asked.
#[derive(Debug, PartialEq)]
pub struct Embeddings {
    /// The model's name.
    pub model: String,
    /// What is to be placed.
    pub input: Texts,
    is_base64: bool,
}

impl Embeddings {
    /// What a request asks for, of a model whose states have so many numbers.
    ///
    /// # Errors
    /// Fields that are wrong, unknown, or ask for what is not done here.
    pub fn of(object: &Map<String, Value>, numbers: usize) -> Result<Self, Refusal> {
        let fields = Fields(object);
        fields.check(&["model", "input", "encoding_format", "dimensions"], &["user"])?;
        let model = fields.text("model")?.ok_or_else(|| Refusal::param("model", "`model` is missing"))?.to_owned();
        let input = fields.get("input").ok_or_else(|| Refusal::param("input", "`input` is missing"))?;
        if fields.count("dimensions", 1..=u64::MAX)?.is_some_and(|asked| asked != numbers) {
            return Err(Refusal::param("dimensions", format!("the model's embeddings have {numbers} numbers")));
        }
        let is_base64 = match fields.text("encoding_format")? {
            None | Some("float") => false,
            Some("base64") => true,
            Some(other) => {
                return Err(Refusal::param("encoding_format", format!("`float` or `base64`, not `{other}`")));
            }
        };
        let input = Texts::of(input, "input")?;
        few("input", input.len(), MOST_INPUTS, "texts")?;
        Ok(Embeddings { model, input, is_base64 })
    }

    /// What goes back.
    pub fn reply(&self, places: &[Vec<f32>], tokens: usize) -> Value {
        let place = |(index, place): (usize, &Vec<f32>)| {
            let embedding = match self.is_base64 {
                true => {
                    let bytes: Vec<u8> = place.iter().flat_map(|number| number.to_le_bytes()).collect();
                    json!(STANDARD.encode(bytes))
                }
                false => json!(place),
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        };
        let data: Vec<Value> = places.iter().enumerate().map(place).collect();
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        json!({"object": "list", "data": data, "model": self.model, "usage": usage})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_as_they_are_or_as_bytes() {
        let of = |value: Value| Embeddings::of(value.as_object().unwrap(), 2);
        let asked = of(json!({"model": "m", "input": ["a"], "dimensions": 2})).unwrap();
        assert_eq!(asked.reply(&[vec![0.5, -1.0]], 3)["data"][0]["embedding"], json!([0.5, -1.0]));
        assert_eq!(asked.reply(&[], 3)["usage"]["total_tokens"], 3);
        let asked = of(json!({"model": "m", "input": "a", "encoding_format": "base64"})).unwrap();
        assert_eq!(asked.reply(&[vec![0.5, -1.0]], 3)["data"][0]["embedding"], "AAAAPwAAgL8=");
        for (wrong, field) in [
            (json!({"model": "m"}), "input"),
            (json!({"model": "m", "input": "a", "dimensions": 3}), "dimensions"),
            (json!({"model": "m", "input": "a", "encoding_format": "hex"}), "encoding_format"),
            (json!({"model": "m", "input": {}}), "input"),
            (json!({"model": "m", "inputs": "a"}), "inputs"),
            (json!({"model": "m", "input": vec!["a"; 3000]}), "input"),
            (json!({"model": "m", "input": vec![[1]; 2049]}), "input"),
        ] {
            assert_eq!(of(wrong).unwrap_err().json()["error"]["param"], field);
        }
        let many = of(json!({"model": "m", "input": vec!["a"; 3000]})).unwrap_err().json();
        assert_eq!(many["error"]["message"], "`input` has 3000 texts: at most 2048 are taken at once");
        assert!(of(json!({"model": "m", "input": vec!["a"; 2048]})).is_ok());
        assert!(of(json!({"model": "m", "input": vec![1; 3000]})).is_ok(), "one text of many tokens");
    }
}
