//! What the towers of a model say of the pictures and sounds of rows: made once for each, before the language model is
//! loaded, and kept on disk by what decides it.

use super::kept::Store;
use super::processors::modality;
use crate::data::{MediaRules, MediaTable, Prepared};
use crate::device::Compute;
use crate::error::{Error, Kind, Result};
use crate::fence::fenced;
use crate::jobs::base::Base;
use crate::jobs::base::peft_model::LoadedTowers;
use crate::jobs::run::cache::Cache;
use crate::model::{self, Features as Rows, Inputs, SoftTokens, Towers};
use crate::progress::Progress;
use crate::text::{MediaKind, MediaRange};
use crate::weights::Holding;
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

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
    store: Store,
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
    /// Where the towers stay loaded; without it they go when all is made.
    pub loaded: Option<&'a LoadedTowers>,
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
        let mut features = Kept {
            store: Store::new(self.cache.join(FOLDER).join(key)),
            device: self.compute.device.clone(),
            blanks: contents.collect(),
            cache: None,
        };
        let pieces = all.iter().flat_map(|(_, pieces)| pieces).chain(features.blanks.values());
        let whole = features.store.whole(pieces.copied().collect(), progress);
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
                    let rows = rows(towers.as_ref(), kind, blank, &features.device)?;
                    features.store.keep(&content, &rows, progress)?;
                }
            }
        }
        self.make_missing(&mut features, &missing, whole, towers.as_ref(), progress)?;
        Ok(Features::Kept(features))
    }

    fn towers(&self, progress: &dyn Progress) -> Result<Arc<dyn Towers>> {
        match self.loaded {
            Some(loaded) => loaded.get(|| self.load_towers(progress)),
            None => Ok(self.load_towers(progress)?.into()),
        }
    }

    fn load_towers(&self, progress: &dyn Progress) -> Result<Box<dyn Towers>> {
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
        features: &mut Kept,
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
                        let rows = rows(towers, kind, prepared, &features.device)?;
                        features.store.keep(content, &rows, progress)?;
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
        let rows = self.store.read(content, &self.device)?;
        // Of a sound that is short there are fewer: the model knows what to put in the place of the others.
        let [count, places] = [rows.dims()[0], medium.tokens.len()];
        if count > places {
            let what = format!(
                "the tower makes {count} soft tokens of a {}, and the model has places for {places}",
                medium.kind.name()
            );
            let hint = "`config.json` and the processor's settings belong to different models";
            return Err(Error::new(Kind::Config, what).hint_of_files(hint));
        }
        Ok(SoftTokens { rows: medium.tokens.clone(), modality: modality(medium.kind), features: Rows::Encoded(rows) })
    }
}

/// What a blank is kept as: by its size, so that it is the same whatever was looked at before.
fn content_of(kind: MediaKind, blank: &Prepared) -> [u8; 32] {
    let Prepared { dims, valid, .. } = blank;
    *blake3::hash(format!("blank {} {dims:?} {valid}", kind.name()).as_bytes()).as_bytes()
}
