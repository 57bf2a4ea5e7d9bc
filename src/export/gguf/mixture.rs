//! Which type each tensor of a file gets: llama.cpp's mixtures, so that a file of a name has the size that people know.

use crate::quant::QuantType;
use crate::weights::names::{Projection, TensorId};
use std::fmt;

/// The kinds of GGUF files, as llama.cpp names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, non_camel_case_types)] // each is what its name says
pub enum FileType {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q2_K,
    Q3_K_S,
    Q3_K_M,
    Q3_K_L,
    Q4_K_S,
    Q4_K_M,
    Q5_K_S,
    Q5_K_M,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
}

/// Each kind: its name, its number in `general.file_type`, the type of most of its matrices.
const FILE_TYPES: [(FileType, &str, u64, QuantType); 19] = [
    (FileType::F32, "F32", 0, QuantType::F32),
    (FileType::F16, "F16", 1, QuantType::F16),
    (FileType::BF16, "BF16", 32, QuantType::BF16),
    (FileType::Q8_0, "Q8_0", 7, QuantType::Q8_0),
    (FileType::Q4_0, "Q4_0", 2, QuantType::Q4_0),
    (FileType::Q4_1, "Q4_1", 3, QuantType::Q4_1),
    (FileType::Q5_0, "Q5_0", 8, QuantType::Q5_0),
    (FileType::Q5_1, "Q5_1", 9, QuantType::Q5_1),
    (FileType::Q2_K, "Q2_K", 10, QuantType::Q2K),
    (FileType::Q3_K_S, "Q3_K_S", 11, QuantType::Q3K),
    (FileType::Q3_K_M, "Q3_K_M", 12, QuantType::Q3K),
    (FileType::Q3_K_L, "Q3_K_L", 13, QuantType::Q3K),
    (FileType::Q4_K_S, "Q4_K_S", 14, QuantType::Q4K),
    (FileType::Q4_K_M, "Q4_K_M", 15, QuantType::Q4K),
    (FileType::Q5_K_S, "Q5_K_S", 16, QuantType::Q5K),
    (FileType::Q5_K_M, "Q5_K_M", 17, QuantType::Q5K),
    (FileType::Q6_K, "Q6_K", 18, QuantType::Q6K),
    (FileType::IQ4_NL, "IQ4_NL", 25, QuantType::IQ4NL),
    (FileType::IQ4_XS, "IQ4_XS", 30, QuantType::IQ4XS),
];

impl FileType {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = FileType> {
        FILE_TYPES.iter().map(|row| row.0)
    }

    /// The kind with this name, in letters of either size.
    pub fn parse(name: &str) -> Option<Self> {
        FILE_TYPES.iter().find(|row| row.1.eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    /// The kind of a file whose `general.file_type` is this number.
    pub fn numbered(number: u64) -> Option<Self> {
        FILE_TYPES.iter().find(|row| row.2 == number).map(|row| row.0)
    }

    fn row(self) -> (FileType, &'static str, u64, QuantType) {
        FILE_TYPES[self as usize]
    }

    /// The name that llama.cpp uses: `Q4_K_M`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The number in `general.file_type`.
    pub fn number(self) -> u64 {
        self.row().2
    }

    /// The type of most of its matrices.
    pub fn most(self) -> QuantType {
        self.row().3
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What of a model decides about the types of its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// Decoder layers.
    pub layers: usize,
    /// Query heads per key and value head.
    pub heads_per_group: usize,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Whether numbers are chosen by an importance matrix.
    pub has_importance: bool,
}

/// The floats that a tensor is stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored(pub QuantType);

/// The type of a tensor in a file of this kind, and the one that it was to have if its rows are no whole blocks of that.
pub fn type_of(
    id: &TensorId,
    shape: &[usize],
    Stored(stored): Stored,
    file_type: FileType,
    traits: &Traits,
) -> (QuantType, Option<QuantType>) {
    let &[_, row] = shape else { return (QuantType::F32, None) };
    let wanted = match kept(id) {
        Some(Kept::InF32) => QuantType::F32,
        Some(Kept::InFloats) if !file_type.most().is_float() => stored,
        _ => wanted(id, file_type, traits),
    };
    let fitting = fitting(wanted, row);
    (fitting, (fitting != wanted).then_some(wanted))
}

/// How a matrix is kept out of quantisation.
enum Kept {
    /// In f32 whatever the kind of file.
    InF32,
    /// In the floats that it is stored as, where the kind of file has blocks.
    InFloats,
}

/// What llama.cpp does not quantise: a few numbers that decide about much, and matrices that are small beside the others.
fn kept(id: &TensorId) -> Option<Kept> {
    match id {
        TensorId::Projection(_, Projection::AltupPrediction | Projection::AltupCorrection) => Some(Kept::InF32),
        TensorId::Projection(_, Projection::AltupRouter | Projection::LaurelLeft | Projection::LaurelRight)
        | TensorId::PerLayerModelProjection
        | TensorId::AltupProjection(_)
        | TensorId::AltupUnembedProjection(_) => Some(Kept::InFloats),
        _ => None,
    }
}

/// The type that suits a matrix, whatever its rows.
fn wanted(id: &TensorId, file_type: FileType, traits: &Traits) -> QuantType {
    use FileType as F;
    let most = file_type.most();
    if most.is_float() {
        return most;
    }
    match id {
        TensorId::LmHead => head(most),
        TensorId::EmbedTokens | TensorId::EmbedTokensPerLayer if traits.tied => head(most),
        TensorId::Projection(layer, projection) => {
            let (layer, layers) = (*layer, traits.layers);
            let eighth = layers / 8;
            let with_more = layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
            let grouped = traits.heads_per_group >= 4;
            match (projection, file_type) {
                (Projection::V, F::Q2_K) => {
                    if grouped {
                        QuantType::Q4K
                    } else {
                        QuantType::Q3K
                    }
                }
                (Projection::V, F::Q3_K_M) => {
                    if layer < 2 {
                        QuantType::Q5K
                    } else {
                        QuantType::Q4K
                    }
                }
                (Projection::V, F::Q3_K_L) => QuantType::Q5K,
                (Projection::V, F::IQ4_NL | F::IQ4_XS) if grouped => QuantType::Q5K,
                (Projection::V | Projection::Down, F::Q4_K_M | F::Q5_K_M) if with_more => QuantType::Q6K,
                (Projection::V, F::Q4_K_S) if layer < 4 => QuantType::Q5K,
                (Projection::Down, F::Q2_K) => QuantType::Q3K,
                (Projection::Down, F::Q3_K_M) => {
                    if layer < layers / 16 {
                        QuantType::Q5K
                    } else {
                        QuantType::Q4K
                    }
                }
                (Projection::Down, F::Q3_K_L) => QuantType::Q5K,
                (Projection::Down, F::IQ4_NL | F::IQ4_XS) if layer < eighth && !traits.has_importance => QuantType::Q5K,
                (Projection::Down, F::Q4_K_S) if layer < eighth => QuantType::Q5K,
                (Projection::Down, F::Q4_0) if layer < eighth && traits.has_importance => QuantType::Q4_1,
                (Projection::Down, F::Q5_0) if layer < eighth && traits.has_importance => QuantType::Q5_1,
                (Projection::O, F::Q2_K) => QuantType::Q3K,
                (Projection::O, F::Q3_K_M) => QuantType::Q4K,
                (Projection::O, F::Q3_K_L) => QuantType::Q5K,
                _ => most,
            }
        }
        _ => most,
    }
}

/// The head decides about words, so it gets six bits at least.
fn head(most: QuantType) -> QuantType {
    if most == QuantType::Q8_0 { most } else { QuantType::Q6K }
}

/// The type, or one of about its size whose blocks rows of this length are made of.
fn fitting(of: QuantType, row: usize) -> QuantType {
    if row.is_multiple_of(of.block_size()) {
        return of;
    }
    let smaller = match of {
        QuantType::Q2K | QuantType::Q3K | QuantType::IQ4XS => QuantType::IQ4NL,
        QuantType::Q4K => QuantType::Q5_0,
        QuantType::Q5K => QuantType::Q5_1,
        QuantType::Q6K => QuantType::Q8_0,
        _ => QuantType::F16,
    };
    if row.is_multiple_of(smaller.block_size()) { smaller } else { QuantType::F16 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const STORED: Stored = Stored(QuantType::BF16);

    fn counts(
        file_type: FileType,
        layers: usize,
        width: usize,
        heads_per_group: usize,
    ) -> BTreeMap<&'static str, usize> {
        let traits = Traits { layers, heads_per_group, tied: true, has_importance: false };
        let mut counts = BTreeMap::new();
        let mut add = |id: TensorId, shape: &[usize]| {
            *counts.entry(type_of(&id, shape, STORED, file_type, &traits).0.name()).or_default() += 1;
        };
        add(TensorId::EmbedTokens, &[1000, width]);
        for layer in 0..layers {
            for projection in Projection::SEVEN {
                let row = match projection {
                    Projection::O => 1024,
                    Projection::Down => 2048,
                    _ => width,
                };
                add(TensorId::Projection(layer, projection), &[256, row]);
            }
        }
        counts
    }

    #[test]
    fn names_and_numbers_are_read_back() {
        for (place, of) in FileType::all().enumerate() {
            assert_eq!(of as usize, place);
            assert_eq!(FileType::parse(&of.name().to_lowercase()), Some(of));
        }
        assert_eq!(FileType::parse("Q9"), None);
    }

    /// The published Q4_K_M file of the 270M: rows of 640 are not whole blocks of 256.
    #[test]
    fn the_mixture_of_the_published_270m() {
        let expected = [("Q4_K", 27), ("Q5_0", 81), ("Q6_K", 9), ("Q8_0", 10)];
        assert_eq!(counts(FileType::Q4_K_M, 18, 640, 4), expected.into());
    }

    #[test]
    fn the_mixtures_of_a_model_of_whole_blocks() {
        let of = |file_type| counts(file_type, 26, 1152 / 9 * 10, 4); // 26 layers, rows of 1280
        assert_eq!(of(FileType::Q4_K_M), [("Q4_K", 156), ("Q6_K", 27)].into());
        assert_eq!(of(FileType::Q4_K_S), [("Q4_K", 175), ("Q5_K", 7), ("Q6_K", 1)].into());
        assert_eq!(of(FileType::Q5_K_M), [("Q5_K", 156), ("Q6_K", 27)].into());
        assert_eq!(of(FileType::Q5_K_S), [("Q5_K", 182), ("Q6_K", 1)].into());
        assert_eq!(of(FileType::Q3_K_S), [("Q3_K", 182), ("Q6_K", 1)].into());
        assert_eq!(of(FileType::Q3_K_M), [("Q3_K", 104), ("Q4_K", 75), ("Q5_K", 3), ("Q6_K", 1)].into());
        assert_eq!(of(FileType::Q3_K_L), [("Q3_K", 104), ("Q5_K", 78), ("Q6_K", 1)].into());
        assert_eq!(of(FileType::Q2_K), [("Q2_K", 104), ("Q3_K", 52), ("Q4_K", 26), ("Q6_K", 1)].into());
        assert_eq!(of(FileType::Q6_K), [("Q6_K", 183)].into());
        assert_eq!(of(FileType::Q8_0), [("Q8_0", 183)].into());
        assert_eq!(of(FileType::Q4_0), [("Q4_0", 182), ("Q6_K", 1)].into());
        assert_eq!(of(FileType::IQ4_XS), [("IQ4_XS", 153), ("Q5_K", 29), ("Q6_K", 1)].into());
        assert_eq!(of(FileType::BF16), [("BF16", 183)].into());
        let few = counts(FileType::Q2_K, 26, 1280, 2);
        assert_eq!(few, [("Q2_K", 104), ("Q3_K", 78), ("Q6_K", 1)].into());
    }

    #[test]
    fn rows_that_no_block_fits_stay_floats() {
        let traits = Traits { layers: 4, heads_per_group: 1, tied: false, has_importance: false };
        let q = TensorId::Projection(0, Projection::Q);
        let of = |id: &TensorId, shape: &[usize], file_type| type_of(id, shape, STORED, file_type, &traits);
        assert_eq!(of(&q, &[8, 48], FileType::Q4_K_M), (QuantType::F16, Some(QuantType::Q4K)));
        assert_eq!(of(&q, &[8, 48], FileType::Q8_0), (QuantType::F16, Some(QuantType::Q8_0)));
        assert_eq!(of(&q, &[8, 96], FileType::IQ4_XS), (QuantType::IQ4NL, Some(QuantType::IQ4XS)));
        assert_eq!(of(&TensorId::Norm, &[48], FileType::Q4_K_M), (QuantType::F32, None));
        assert_eq!(of(&TensorId::EmbedTokens, &[8, 256], FileType::Q4_K_M), (QuantType::Q4K, None), "not the head");
        assert_eq!(of(&TensorId::LmHead, &[8, 256], FileType::Q4_K_M), (QuantType::Q6K, None));
    }
    #[test]
    fn what_llama_cpp_does_not_quantise_stays_floats() {
        let traits = Traits { layers: 30, heads_per_group: 4, tied: true, has_importance: false };
        let of = |id: TensorId, stored, file_type| type_of(&id, &[64, 256], Stored(stored), file_type, &traits).0;
        let kept = [
            TensorId::Projection(3, Projection::AltupRouter),
            TensorId::Projection(3, Projection::LaurelLeft),
            TensorId::Projection(3, Projection::LaurelRight),
            TensorId::PerLayerModelProjection,
            TensorId::AltupProjection(2),
            TensorId::AltupUnembedProjection(0),
        ];
        for id in kept {
            for stored in [QuantType::F32, QuantType::F16, QuantType::BF16] {
                assert_eq!(of(id, stored, FileType::Q4_K_M), stored, "{id}");
                assert_eq!(of(id, stored, FileType::F16), QuantType::F16, "{id}");
            }
        }
        for part in [Projection::AltupPrediction, Projection::AltupCorrection] {
            let id = TensorId::Projection(0, part);
            for file_type in FileType::all() {
                assert_eq!(of(id, QuantType::BF16, file_type), QuantType::F32, "{id}: {file_type}");
            }
        }
        assert_eq!(of(TensorId::EmbedTokensPerLayer, QuantType::BF16, FileType::Q4_K_M), QuantType::Q6K);
        assert_eq!(of(TensorId::EmbedTokensPerLayer, QuantType::BF16, FileType::Q8_0), QuantType::Q8_0);
        let gate = TensorId::Projection(0, Projection::PerLayerGate);
        assert_eq!(of(gate, QuantType::BF16, FileType::Q4_K_M), QuantType::Q4K);
    }
}
