//! How late it is, written down: a machine whose clock is wrong at its next start must not bring expired keys to life.

use crate::audit::{Act, Field, Object, Verb};
use crate::clock::Timestamp;
use crate::registry::{Registry, RegistryError};
use crate::store::{Change, StoreError};

/// What was let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// What keys were judged by.
    pub before: Timestamp,
    /// What they are judged by now: the machine's clock.
    pub now: Timestamp,
}

impl Registry {
    /// Writes down how late it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn mark_time(&self) -> Result<(), StoreError> {
        // Held: a time that is being forgotten must not be written again.
        let _writing = self.writer();
        self.store.commit(vec![Change::MarkTime(self.clock.now())])
    }

    /// Lets a later time go than the machine's clock shows. It gives rights to keys, and so is written first.
    ///
    /// # Errors
    /// [`RegistryError::Store`]; nothing has changed then.
    pub fn forget_time(&self) -> Result<Forgotten, RegistryError> {
        let mut unsettled = self.writer();
        let (before, wall) = (self.clock.now(), self.clock.wall());
        let act = Act::new(Verb::TimeForgotten, Object::store()).with(Field::changed("time", before, wall));
        self.commit(&mut unsettled, act.into(), vec![Change::MarkTime(wall)])?;
        self.clock.forget();
        Ok(Forgotten { before, now: self.clock.now() })
    }
}
