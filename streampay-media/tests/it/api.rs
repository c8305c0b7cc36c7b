//! What embedders rely on.

use streampay_media::{
    gate::Gate,
    meter::{Meter, ReceiveMeter},
    peer::{Connection, ViewerConnection, ViewerStream},
    source::{KeyFrameRequests, Source, SourceWriter},
    whep::{Arrival, Client, Server},
    whip,
};

const fn is_send<T: Send + 'static>() {}

#[test]
fn handles_can_move_between_tasks() {
    is_send::<Gate>();
    is_send::<Meter>();
    is_send::<ReceiveMeter>();
    is_send::<Connection>();
    is_send::<ViewerConnection>();
    is_send::<ViewerStream>();
    is_send::<Source>();
    is_send::<SourceWriter>();
    is_send::<Arrival>();
    is_send::<Client>();
    is_send::<Server>();
    is_send::<whip::Server>();
    is_send::<KeyFrameRequests>();
}
