//! The sizes in which models are published, for what is asked before anything is downloaded.

/// The size that `name` names among `sizes` of a family, each with its `config.json`: `google/gemma-3-12b-it` of
/// `gemma-3-`, also with another owner or a revision, and with or without one of the `endings`. `None` for every other
/// name, also of quantised copies, whose weights have another size.
pub(in crate::model) fn named<'s>(
    name: &str,
    family: &str,
    endings: &[&str],
    sizes: &[(&'s str, &'s str)],
) -> Option<(&'s str, &'s str)> {
    let id = name.split('@').next().unwrap_or_default();
    let model = id.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let rest = model.strip_prefix(family)?;
    let named = endings.iter().find_map(|ending| rest.strip_suffix(ending)).unwrap_or(rest);
    sizes.iter().copied().find(|(size, _)| named == *size)
}
