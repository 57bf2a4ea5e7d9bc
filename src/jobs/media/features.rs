//! What the towers of a model say of the pictures and sounds of rows: made once for each, before the language model is
//! loaded, and kept on disk by what decides it.

use super::processors::modality;
use crate::atomic;
use crate::data::{MediaRules, MediaTable, Prepared};
use crate::device::Compute;
use crate::error::{Error, Kind, Result};
use crate::fence::fenced;
use crate::jobs::base::Base;
use crate::jobs::run::cache::Cache;
use crate::model::{self, Features as Rows, Inputs, SoftTokens, Towers};
use crate::progress::{Progress, counted};
use crate::text::{MediaKind, MediaRange};
use crate::weights::Holding;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// Begins each file; its last byte is the format's version.
const MAGIC: [u8; 8] = *b"gtsoft\0\x01";

/// Pictures and sounds that are prepared ahead of the towers.
const AHEAD: usize = 4;

/// The rows of soft tokens that stand for pictures and sounds.
#[derive(Debug)]
pub enum Features {
    /// What the towers gave is kept in a folder.
    Kept(Kept),
    /// The towers are trained: they look and listen in every step.
    Live(Box<Live>),
}

/// What towers gave, in a folder.
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
    device: Device,
    /// What an empty picture and silence are kept as.
    blanks: BTreeMap<MediaKind, [u8; 32]>,
    /// The folder around it, where nobody else holds on to it: a private one goes with its last holder.
    pub cache: Option<Cache>,
}

/// Pictures and sounds that are read and prepared when they are asked for.
#[derive(Debug)]
pub struct Live {
    /// Where they are.
    pub tables: Vec<Arc<MediaTable>>,
    /// How they are prepared.
    pub rules: MediaRules,
    /// Where the model computes.
    pub device: Device,
    /// The folder that keeps the bytes of those that have no file, where nobody else holds on to it.
    pub cache: Option<Cache>,
}

/// A picture or sound: the table that has it, and the contents of its pieces.
type Medium<'t> = (&'t MediaTable, Vec<[u8; 32]>);

/// What the pictures and sounds of some rows are made with.
pub struct Making<'a> {
    /// The model.
    pub base: &'a Base,
    /// How they are prepared.
    pub rules: &'a MediaRules,
    /// What its towers are held as.
    pub holding: &'a Holding,
    /// Where they compute.
    pub compute: &'a Compute,
    /// The folder in which what they say is kept.
    pub cache: &'a Path,
}

impl Making<'_> {
    /// Makes those of `tables` that were not made before.
    ///
    /// # Errors
    /// When a picture or sound has changed since it was looked at, the towers cannot be loaded, their device fails, or the folder
    /// cannot be written.
    pub fn make(&self, tables: &[&MediaTable], progress: &dyn Progress) -> Result<Features> {
        fenced("the towers", || self.made(tables, progress))?
    }

    fn made(&self, tables: &[&MediaTable], progress: &dyn Progress) -> Result<Features> {
        let facts = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "rules": self.rules.fingerprint(),
            "model": self.base.fingerprint,
            "held": format!("{:?}", self.holding),
            "device": self.compute.name,
        });
        let key = blake3::hash(facts.to_string().as_bytes()).to_hex()[..32].to_owned();
        let all = tables.iter().flat_map(|table| table.contents().into_iter().map(|pieces| (*table, pieces)));
        let all: Vec<Medium> = all.collect();
        let blanks = self.blanks(&all)?;
        let contents = blanks.iter().map(|(&kind, blank)| (kind, content_of(kind, blank)));
        let features = Kept {
            folder: self.cache.join(FOLDER).join(key),
            device: self.compute.device.clone(),
            blanks: contents.collect(),
            cache: None,
        };
        let pieces = all.iter().flat_map(|(_, pieces)| pieces).chain(features.blanks.values());
        let whole = features.check(pieces.copied().collect(), progress);
        let has = |(_, pieces): &&Medium| pieces.iter().all(|piece| whole.contains(piece));
        let missing: Vec<&Medium> = all.iter().filter(|medium| !has(medium)).collect();
        let no_blank = features.blanks.values().any(|blank| !whole.contains(blank));
        if missing.is_empty() && !no_blank {
            progress.note(&format!(
                "All {} pictures and sounds were seen before: what the towers say of them is kept.",
                all.len()
            ));
            return Ok(Features::Kept(features));
        }
        let towers = self.towers(progress)?;
        if no_blank {
            for (kind, blank) in blanks {
                let content = content_of(kind, &blank);
                if !whole.contains(&content) {
                    features.keep(&content, &rows(towers.as_ref(), kind, blank, &features.device)?)?;
                }
            }
        }
        self.make_missing(&features, &missing, whole, towers.as_ref(), progress)?;
        Ok(Features::Kept(features))
    }

    fn towers(&self, progress: &dyn Progress) -> Result<Box<dyn Towers>> {
        let Base { config, source, .. } = self.base;
        let towers =
            model::load_towers(config, source, &Holding::dense(self.holding.dtype), &self.compute.device, progress)?;
        towers.ok_or_else(|| {
            Error::new(Kind::Run, "rows hold pictures or sounds, and the model has nothing that sees or hears")
        })
    }

    /// An empty picture and silence, as large as the first of each kind.
    fn blanks(&self, all: &[Medium]) -> Result<BTreeMap<MediaKind, Prepared>> {
        let mut blanks = BTreeMap::new();
        for (table, pieces) in all {
            let Some(first) = pieces.first() else { continue };
            let kind = table.kind(first)?;
            if let Entry::Vacant(place) = blanks.entry(kind) {
                place.insert(self.rules.blank(kind, &table.prepare_piece(first, self.rules)?));
            }
        }
        Ok(blanks)
    }

    /// Prepares the next ones on a thread of its own while the towers look at those before. What is `whole` is kept already.
    fn make_missing(
        &self,
        features: &Kept,
        missing: &[&Medium],
        mut whole: BTreeSet<[u8; 32]>,
        towers: &dyn Towers,
        progress: &dyn Progress,
    ) -> Result<()> {
        progress.start("Looking at pictures and listening to sounds", Some(missing.len() as u64), "files");
        let made = std::thread::scope(|scope| {
            // Dropped when this closure returns, which ends the other thread.
            let (sender, receiver) = sync_channel(AHEAD);
            let prepare = move || {
                for (table, pieces) in missing {
                    let prepared = table.prepare(&pieces[0], self.rules);
                    if sender.send((table.kind(&pieces[0]), pieces, prepared)).is_err() {
                        return;
                    }
                }
            };
            std::thread::Builder::new()
                .spawn_scoped(scope, prepare)
                .map_err(|e| Error::new(Kind::Run, format!("a thread cannot be started: {e}")).caused_by(e))?;
            for (kind, pieces, prepared) in receiver {
                let kind = kind?;
                for (content, prepared) in pieces.iter().zip(prepared?) {
                    if whole.insert(*content) {
                        features.keep(content, &rows(towers, kind, prepared, &features.device)?)?;
                    }
                }
                progress.advance(1);
            }
            Ok(())
        });
        progress.finish();
        made
    }
}

/// The folder in the cache that holds what towers said.
const FOLDER: &str = "features";

/// Makes sure that what towers say can be kept in the cache's folder, and otherwise, saying so, takes a private one.
///
/// # Errors
/// When there is no private one either.
pub fn make_room(cache: &mut Cache, progress: &dyn Progress) -> Result<()> {
    let probe = |cache: &Path| {
        let folder = cache.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(|e| Error::io("creating the folder", &folder, e))?;
        tempfile::tempfile_in(&folder).map_err(|e| Error::io("writing into", &folder, e)).map(|_| ())
    };
    cache.prepare(probe, progress)
}

/// The rows for one piece.
fn rows(towers: &dyn Towers, kind: MediaKind, prepared: Prepared, device: &Device) -> Result<Tensor<2>> {
    let Prepared { dims, values, valid } = prepared;
    let prepared = Tensor::from_data(TensorData::new(values, dims), device);
    towers
        .encode(modality(kind), prepared, valid)
        .ok_or_else(|| Error::new(Kind::Run, format!("the model has no tower for `{}`", kind.name())))
}

/// What a model reads of a row by itself: its ids, and in the rows of `media` what `features` have of them; there are some
/// wherever there are media.
///
/// # Errors
/// As [`Features::soft_tokens`].
pub fn inputs(input_ids: Vec<u32>, media: &[MediaRange], features: Option<&Features>) -> Result<Inputs> {
    let soft_tokens = features.map_or(Ok(Vec::new()), |features| features.soft_tokens(media))?;
    Ok(Inputs { soft_tokens, ..Inputs::of(input_ids) })
}

impl Features {
    /// What stands in the rows of `media`.
    ///
    /// # Errors
    /// When what was kept, or a picture or sound, cannot be read any more.
    pub fn soft_tokens(&self, media: &[MediaRange]) -> Result<Vec<SoftTokens>> {
        match self {
            Features::Kept(kept) => media.iter().map(|medium| kept.soft_token(medium, &medium.content)).collect(),
            Features::Live(live) => media.iter().map(|medium| live.soft_token(medium, false)).collect(),
        }
    }

    /// The same with an empty picture or silence in the place of each.
    ///
    /// # Errors
    /// As [`Features::soft_tokens`].
    pub fn blanks(&self, media: &[MediaRange]) -> Result<Vec<SoftTokens>> {
        match self {
            Features::Kept(kept) => {
                let blank = |medium: &MediaRange| *kept.blanks.get(&medium.kind).unwrap_or(&medium.content);
                media.iter().map(|medium| kept.soft_token(medium, &blank(medium))).collect()
            }
            Features::Live(live) => media.iter().map(|medium| live.soft_token(medium, true)).collect(),
        }
    }
}

impl Live {
    fn soft_token(&self, medium: &MediaRange, blank: bool) -> Result<SoftTokens> {
        let table = self.tables.iter().find(|table| table.kind(&medium.content).is_ok());
        let table = table.ok_or_else(|| Error::new(Kind::Run, "a row shows what no table of its data has"))?;
        let prepared = table.prepare_piece(&medium.content, &self.rules)?;
        let prepared = if blank { self.rules.blank(medium.kind, &prepared) } else { prepared };
        let Prepared { dims, values, valid } = prepared;
        let values = Tensor::from_data(TensorData::new(values, dims), &self.device);
        let features = Rows::Prepared { values, valid };
        Ok(SoftTokens { rows: medium.tokens.clone(), modality: modality(medium.kind), features })
    }
}

impl Kept {
    fn soft_token(&self, medium: &MediaRange, content: &[u8; 32]) -> Result<SoftTokens> {
        let rows = self.read(content)?;
        // Of a sound that is short there are fewer: the model knows what to put in the place of the others.
        let [count, places] = [rows.dims()[0], medium.tokens.len()];
        if count > places {
            let what = format!(
                "the tower makes {count} soft tokens of a {}, and the model has places for {places}",
                medium.kind.name()
            );
            let hint = "`config.json` and the processor's settings belong to different models";
            return Err(Error::new(Kind::Config, what).hint(hint));
        }
        Ok(SoftTokens { rows: medium.tokens.clone(), modality: modality(medium.kind), features: Rows::Encoded(rows) })
    }

    fn path(&self, content: &[u8; 32]) -> PathBuf {
        let hex = blake3::Hash::from_bytes(*content).to_hex();
        self.folder.join(&hex[..2]).join(&hex[2..])
    }

    /// Those of `contents` that were made and can be read, each read whole: a run does not begin on what it cannot finish
    /// with. What is damaged is made again, and that is said.
    fn check(&self, contents: BTreeSet<[u8; 32]>, progress: &dyn Progress) -> BTreeSet<[u8; 32]> {
        let made: Vec<[u8; 32]> = contents.into_iter().filter(|content| self.path(content).exists()).collect();
        if made.is_empty() {
            return BTreeSet::new();
        }
        progress.start("Checking what is kept of pictures and sounds", Some(made.len() as u64), "files");
        let is_whole = |content: &[u8; 32]| {
            let bytes = std::fs::read(self.path(content)).ok();
            progress.advance(1);
            bytes.is_some_and(|bytes| values(&bytes).is_some())
        };
        let whole: BTreeSet<[u8; 32]> = made.par_iter().copied().filter(is_whole).collect();
        progress.finish();
        match made.len() - whole.len() {
            0 => {}
            damaged => progress.note(&format!(
                "warning: damaged, and made again: {} of what is kept of pictures and sounds, in `{}`",
                counted(damaged, "file"),
                self.folder.display()
            )),
        }
        whole
    }

    fn keep(&self, content: &[u8; 32], rows: &Tensor<2>) -> Result<()> {
        let path = self.path(content);
        let folder = path.parent().unwrap_or(&self.folder);
        std::fs::create_dir_all(folder).map_err(|e| Error::io("creating the folder", folder, e))?;
        let [count, width] = rows.dims();
        let mut bytes = MAGIC.to_vec();
        bytes.extend([count, width].iter().flat_map(|&n| (n as u64).to_le_bytes()));
        bytes.extend(rows.to_data().iter::<f32>().flat_map(f32::to_le_bytes));
        bytes.extend(blake3::hash(&bytes).as_bytes());
        atomic::write(&path, &bytes)
    }

    fn read(&self, content: &[u8; 32]) -> Result<Tensor<2>> {
        let path = self.path(content);
        let bytes = std::fs::read(&path).map_err(|e| Error::io("reading", &path, e))?;
        let Some((values, dims)) = values(&bytes) else {
            return Err(Error::new(Kind::Data, "what was kept of a picture or sound was damaged since this began")
                .at_path(&path)
                .hint("the same command makes it anew"));
        };
        let values: Vec<f32> = values.iter().map(|four| f32::from_le_bytes(*four)).collect();
        Ok(Tensor::from_data(TensorData::new(values, dims), &self.device))
    }
}

/// The values of a file and their shape, unless it is damaged.
fn values(bytes: &[u8]) -> Option<(&[[u8; 4]], [usize; 2])> {
    let (bytes, hash) = bytes.split_last_chunk::<32>()?;
    let sound = blake3::hash(bytes).as_bytes() == hash;
    let (dims, values) = bytes.strip_prefix(&MAGIC)?.split_first_chunk::<16>()?;
    let (dims, values) = (dims.as_chunks::<8>().0, values.as_chunks::<4>().0);
    let [count, width] = [0, 1].map(|i| usize::try_from(u64::from_le_bytes(dims[i])).unwrap_or(usize::MAX));
    (sound && count.checked_mul(width)? == values.len()).then_some((values, [count, width]))
}

/// What a blank is kept as: by its size, so that it is the same whatever was looked at before.
fn content_of(kind: MediaKind, blank: &Prepared) -> [u8; 32] {
    let Prepared { dims, valid, .. } = blank;
    *blake3::hash(format!("blank {} {dims:?} {valid}", kind.name()).as_bytes()).as_bytes()
}
