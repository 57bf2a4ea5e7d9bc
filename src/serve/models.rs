//! The models that requests name: one that stays, and adapters beside it, which come and go while others are answered.

use crate::clock::now;
use crate::nn::{BaseOnly, SidePath};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What runs beside the model. Who has begun with it keeps it, whatever its name means meanwhile.
pub struct Side {
    path: Box<dyn SidePath + Send + Sync>,
    is_gone: AtomicBool,
}

impl Side {
    /// One that is there.
    pub fn new(path: Box<dyn SidePath + Send + Sync>) -> Arc<Self> {
        Arc::new(Side { path, is_gone: AtomicBool::new(false) })
    }

    /// What the model asks.
    pub fn path(&self) -> &dyn SidePath {
        self.path.as_ref()
    }

    /// Whether no name means it any more.
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::SeqCst)
    }
}

/// A model as requests know it.
#[derive(Clone)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// What runs beside the base.
    pub side: Arc<Side>,
    /// When it came, in seconds since 1970.
    pub created: u64,
    /// Whose it is alone; everybody's without it.
    pub owner: Option<String>,
}

impl Named {
    /// Whether somebody may know of it.
    pub fn is_for(&self, owner: &str) -> bool {
        self.owner.as_deref().is_none_or(|own| own == owner)
    }
}

/// The models that are served now, the one without an adapter first.
pub struct Models {
    all: RwLock<Vec<Named>>,
    when_gone: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Models {
    /// A model by itself.
    pub fn of(base: String) -> Self {
        let named = Named { name: base, side: Side::new(Box::new(BaseOnly)), created: now(), owner: None };
        Models { all: RwLock::new(vec![named]), when_gone: OnceLock::new() }
    }

    /// Calls `act` each time that one is gone. Once.
    pub fn when_gone(&self, act: impl Fn() + Send + Sync + 'static) {
        let _ = self.when_gone.set(Box::new(act));
    }

    /// The name of the one without an adapter.
    pub fn base(&self) -> String {
        self.all().first().map(|base| base.name.clone()).unwrap_or_default()
    }

    /// Those that somebody may know of.
    pub fn of_owner(&self, owner: &str) -> Vec<Named> {
        self.all().iter().filter(|named| named.is_for(owner)).cloned().collect()
    }

    /// What a name means to somebody.
    pub fn find(&self, name: &str, owner: &str) -> Option<Named> {
        self.all().iter().find(|named| named.name == name && named.is_for(owner)).cloned()
    }

    /// Whether a name means something to anybody.
    pub fn has(&self, name: &str) -> bool {
        self.all().iter().any(|named| named.name == name)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all().len()
    }

    /// Lets a name mean this from now on. Answers that have begun go on with what it meant before.
    pub fn put(&self, name: &str, path: Box<dyn SidePath + Send + Sync>, owner: Option<&str>) {
        let named =
            Named { name: name.to_owned(), side: Side::new(path), created: now(), owner: owner.map(str::to_owned) };
        let former = {
            let mut all = self.all_mut();
            match all.iter_mut().find(|named| named.name == name) {
                Some(place) => Some(std::mem::replace(place, named)),
                None => {
                    all.push(named);
                    None
                }
            }
        };
        self.gone(former);
    }

    /// Lets a name mean nothing any more; says whether it meant something. The model without an adapter stays.
    pub fn remove(&self, name: &str) -> bool {
        let former = {
            let mut all = self.all_mut();
            let at = all.iter().skip(1).position(|named| named.name == name);
            at.map(|at| all.remove(at + 1))
        };
        let was_there = former.is_some();
        self.gone(former);
        was_there
    }

    fn gone(&self, former: Option<Named>) {
        let Some(former) = former else { return };
        former.side.is_gone.store(true, Ordering::SeqCst);
        drop(former);
        if let Some(act) = self.when_gone.get() {
            act();
        }
    }

    // The list is whole even where a thread that held it has ended.
    fn all(&self) -> RwLockReadGuard<'_, Vec<Named>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_mut(&self) -> RwLockWriteGuard<'_, Vec<Named>> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The numbers by which an engine knows what runs beside the model.
#[derive(Default)]
pub struct Sides(Vec<Option<Arc<Side>>>);

impl Sides {
    /// The number of one; it means this until it is [free](Sides::free).
    pub fn number(&mut self, side: &Arc<Side>) -> usize {
        let is_it = |known: &Option<Arc<Side>>| known.as_ref().is_some_and(|known| Arc::ptr_eq(known, side));
        let place = self.0.iter().position(is_it).or_else(|| self.0.iter().position(Option::is_none));
        let number = place.unwrap_or(self.0.len());
        if number == self.0.len() {
            self.0.push(None);
        }
        self.0[number] = Some(side.clone());
        number
    }

    /// What each number means to the engine; nobody asks for those that mean nothing.
    pub fn paths(&self) -> Vec<&dyn SidePath> {
        self.0.iter().map(|side| side.as_ref().map_or(&BaseOnly as &dyn SidePath, |side| side.path())).collect()
    }

    /// Lets go of those that no name means any more and nobody uses; which numbers are free again.
    pub fn free(&mut self, is_used: impl Fn(usize) -> bool) -> Vec<usize> {
        let is_over = |(number, side): &(usize, &mut Option<Arc<Side>>)| {
            side.as_ref().is_some_and(|side| side.is_gone()) && !is_used(*number)
        };
        let over = self.0.iter_mut().enumerate().filter(is_over);
        over.map(|(number, side)| {
            *side = None;
            number
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// Something beside the model that says when it is freed.
    struct Counted(Arc<AtomicUsize>);

    impl SidePath for Counted {
        fn project(&self, _: usize, x: crate::ops::Input, _: &crate::ops::Weight) -> burn::tensor::Tensor<2> {
            x.rows().clone()
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_has_begun_keeps_what_a_name_meant_and_it_is_freed_when_the_last_has_ended() {
        let held = Arc::new(AtomicUsize::new(0));
        let counted = || {
            held.fetch_add(1, Ordering::SeqCst);
            Box::new(Counted(held.clone()))
        };
        let (models, told) = (Models::of("base".into()), Arc::new(AtomicUsize::new(0)));
        let tells = told.clone();
        models.when_gone(move || {
            tells.fetch_add(1, Ordering::SeqCst);
        });
        models.put("a", counted(), None);
        let mut sides = Sides::default();
        let (base, first) = (models.find("base", "").unwrap().side, models.find("a", "").unwrap().side);
        assert_eq!((sides.number(&base), sides.number(&first), sides.number(&base)), (0, 1, 0));
        drop(first);

        models.put("a", counted(), None);
        let second = models.find("a", "").unwrap().side;
        assert_eq!((sides.number(&second), told.load(Ordering::SeqCst)), (2, 1), "another number: nothing is mixed up");
        drop(second);
        assert_eq!(sides.free(|number| number == 1), Vec::<usize>::new());
        assert_eq!(held.load(Ordering::SeqCst), 2, "an answer goes on");
        assert_eq!(sides.free(|_| false), [1]);
        assert_eq!(held.load(Ordering::SeqCst), 1);

        assert!(models.remove("a") && !models.remove("a") && !models.remove("base"));
        assert!(models.find("a", "").is_none() && models.has("base"));
        assert_eq!((sides.free(|_| false), held.load(Ordering::SeqCst)), (vec![2], 0));
        models.put("b", counted(), None);
        assert_eq!(sides.number(&models.find("b", "").unwrap().side), 1, "the first that is free");
        assert_eq!(sides.paths().len(), 3);
    }

    #[test]
    fn what_is_somebodys_is_nobody_elses() {
        let models = Models::of("base".into());
        models.put("own", Box::new(BaseOnly), Some("one"));
        let names = |owner: &str| -> Vec<String> { models.of_owner(owner).into_iter().map(|m| m.name).collect() };
        assert_eq!((names("one"), names("two")), (vec!["base".to_owned(), "own".into()], vec!["base".to_owned()]));
        assert!(models.find("own", "one").is_some() && models.find("own", "two").is_none() && models.has("own"));
    }
}
