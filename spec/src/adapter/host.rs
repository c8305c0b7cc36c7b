//! One room, its durable records, and the process that may die at any output.

use std::collections::BTreeMap;

use streampay_core::room::{Room, RoomConfig, RoomInput, RoomOutput};
use streampay_core::session::ApiMisuse;
use streampay_core::store::ChangeSet;
use streampay_core::units::Now;

use super::broken::{Broken, Faults};
use super::{Answered, room};
use crate::json::{BadJson, Fields, Object};

/// A room and its store.
#[derive(Debug)]
pub(super) struct Host {
    config: RoomConfig,
    /// None while the process is dead.
    room: Option<Room>,
    store: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Host {
    pub(super) fn create(fields: Fields<'_>) -> Result<Self, BadJson> {
        let config = room::config(fields.object("config")?)?;
        Ok(Self {
            room: Some(Room::new(config.clone())),
            config,
            store: BTreeMap::new(),
        })
    }

    /// Gives an input and takes every output; or as many as `take` says, events left out, and dies.
    /// No transcript dies between two `persist`s that follow each other.
    pub(super) fn step(
        &mut self,
        faults: &Faults,
        now: Now,
        said: Fields<'_>,
        take: Option<usize>,
    ) -> Answered {
        let mut misuse = None;
        if said.opt("restart").is_some() {
            if faults.is(Broken::ForgetsBans) {
                self.store.clear();
            }
            let records: Vec<_> = self.store.clone().into_iter().collect();
            let room = Room::restore(self.config.clone(), &records);
            self.room = Some(room.map_err(|_| BadJson("restart".into()))?);
        } else if said.opt("create").is_none() {
            misuse = self.handle(now, room::input(said)?).err();
        }
        let outputs = self.drain(take);
        let outputs: Vec<_> = outputs
            .into_iter()
            .map(|output| room::output_to_json(&faults.told(output)))
            .collect();
        let state = self.room.as_ref().map(room::state_to_json);
        let state = state.unwrap_or_else(|| Object::new().with("dead", true));
        Ok(Object::new()
            .with("outputs", outputs)
            .with("state", state)
            .maybe("misuse", misuse.map(|misuse| format!("{misuse:?}")))
            .done())
    }

    fn handle(&mut self, now: Now, input: RoomInput) -> Result<(), ApiMisuse> {
        let room = self.room.as_mut().ok_or(ApiMisuse::Ended)?;
        room.handle(now, input)
    }

    fn drain(&mut self, take: Option<usize>) -> Vec<RoomOutput> {
        let (mut outputs, mut taken) = (Vec::new(), 0_usize);
        while take.is_none_or(|take| taken < take) {
            let Some(output) = self.room.as_mut().and_then(Room::poll_output) else {
                break;
            };
            if let RoomOutput::Persist(changes) = &output {
                write(&mut self.store, changes);
            }
            taken += usize::from(!matches!(output, RoomOutput::Event(_)));
            outputs.push(output);
        }
        if take.is_some() {
            self.room = None;
        }
        outputs
    }
}

/// Makes changes durable.
pub(super) fn write(store: &mut BTreeMap<Vec<u8>, Vec<u8>>, changes: &ChangeSet) {
    for change in changes.changes() {
        match &change.value {
            Some(value) => store.insert(change.key.clone(), value.clone()),
            None => store.remove(&change.key),
        };
    }
}
