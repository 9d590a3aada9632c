//! Takes back what came of an image that was not finished, as on a device that is full: its layers would take the room
//! that is missing, and nobody would know of them.

use crate::Engine;
use crate::error::{Error, Result};
use std::error::Error as _;
use std::io;
use store::{ChainId, ImageId};

/// An image being made. Dropped before [`Undo::done`], it takes back what was noted, as far as nobody else needs it.
pub struct Undo<'a> {
    engine: &'a Engine,
    layers: Vec<ChainId>,
    image: Option<ImageId>,
    done: bool,
}

impl<'a> Undo<'a> {
    pub fn new(engine: &'a Engine) -> Undo<'a> {
        Undo {
            engine,
            layers: Vec::new(),
            image: None,
            done: false,
        }
    }

    /// Notes a layer, before or after it is made.
    pub fn layer(&mut self, chain: ChainId) {
        self.layers.push(chain);
    }

    /// Notes an image that is about to be made; one that is there already stays.
    pub fn image(&mut self, id: &ImageId) {
        if !self.engine.store.images.exists(id) {
            self.image = Some(id.clone());
        }
    }

    /// It is finished, or what there is of it is of use.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let (tags, images, layers) = (
            &self.engine.store.tags,
            &self.engine.store.images,
            &self.engine.store.layers,
        );
        let left = |error: store::Error| log::warn!("left to the next prune: {error}");
        if let Some(id) = self.image.as_ref().filter(|id| images.exists(id)) {
            for name in tags.of_image(id) {
                tags.remove(&name).map(drop).unwrap_or_else(left);
            }
            images.remove(id).map(drop).unwrap_or_else(left);
        }
        for chain in self.layers.iter().rev() {
            layers.remove_unused(chain).map(drop).unwrap_or_else(left);
        }
    }
}

/// Tells how much room there is, now that everything was taken back, where there was too little.
pub fn tell_room<T>(engine: &Engine, result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        if !is_full(&error) {
            return error;
        }
        let Ok(bytes) = engine.store.free_space() else {
            return error;
        };
        let bytes = api::progress::human(i64::try_from(bytes).unwrap_or(i64::MAX));
        let inodes = match engine.store.free_inodes() {
            Ok(Some(inodes)) => format!(" and {inodes} inodes"),
            _ => String::new(),
        };
        let root = engine.config.data_root.display();
        error.adding(format!("{bytes}{inodes} of {root} are free"))
    })
}

/// Says if an error came of a device without room.
pub fn is_full(error: &Error) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        next = cause.source();
    }
    false
}
