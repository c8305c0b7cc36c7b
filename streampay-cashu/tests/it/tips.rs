//! Payments that buy no media, in ecash: a fee for joining, and a tip. Spec: rooms 4.

use streampay_cashu::{LockedMachine, LockedPolicy, SwapMachine};
use streampay_core::room::{Room, RoomConfig, RoomId, RoomInput, RoomOutput};
use streampay_core::session::{Command, Event, Input, Name, RoomNews};

use crate::mint::TestMint;
use crate::node::sat;
use crate::world::World;

/// The payee's room, and what of its session it has heard.
struct Host {
    room: Room,
    heard: usize,
}

impl Host {
    fn new(world: &World) -> Self {
        let mut room = Room::new(RoomConfig::new(RoomId([1; 32])));
        let payee = &world.payee.session;
        let session = payee.session().unwrap();
        let identity = payee.viewer().unwrap();
        room.handle(world.now, RoomInput::Bound { session, identity })
            .unwrap();
        Self { room, heard: 0 }
    }

    /// The room hears of the session, and it of the room.
    fn meets(&mut self, world: &mut World) {
        let new = world.payee.events[self.heard..].to_vec();
        self.heard = world.payee.events.len();
        for event in new {
            if let Event::Room(ask) = event {
                let session = world.payee.session.session().unwrap();
                self.room
                    .handle(world.now, RoomInput::Asked { session, ask })
                    .unwrap();
            }
        }
        while let Some(output) = self.room.poll_output() {
            if let RoomOutput::Tell { news, .. } = output {
                let told = Input::Command(Command::Room(news));
                world.payee.input(world.now, told);
            }
        }
    }

    async fn until(&mut self, world: &mut World, what: &str, done: impl Fn(&World) -> bool) {
        for _ in 0..1_000 {
            if done(world) {
                return;
            }
            world.step().await;
            self.meets(world);
        }
        panic!("never {what}: {:?}", world.payer.events);
    }
}

#[tokio::test]
async fn fee_for_joining_and_a_tip_are_paid_by_every_method() {
    let all = [
        LockedMachine::P2PK,
        LockedMachine::CHAIN,
        SwapMachine::METHOD,
    ];
    for method in all {
        let mint = TestMint::new(0).await;
        let costs = (sat(2), sat(6));
        let policy = LockedPolicy::default();
        let mut world = World::with_fee(mint, 500, costs, sat(200), policy, vec![method]).await;
        world.until("ticks", |world| world.payer.ticks >= 2).await;
        let mut host = Host::new(&world);
        let join = Command::Join {
            name: Name::new("ann").unwrap(),
            invitation: None,
            max_fee: sat(6),
        };
        world.payer.input(world.now, Input::Command(join));
        let joined = |world: &World| {
            let is_it = |event: &Event| matches!(event, Event::News(RoomNews::Joined { .. }));
            world.payer.events.iter().any(is_it)
        };
        host.until(&mut world, "joined", joined).await;
        assert_eq!(world.payee.session.tips(), sat(6), "{method}: the fee");
        let tip = Input::Command(Command::Tip(sat(10)));
        world.payer.input(world.now, tip);
        let given = |world: &World| world.payee.session.tips() == sat(16);
        host.until(&mut world, "the tip", given).await;
        let purses = world.payer.session.purses();
        assert!(purses.iter().all(|(_, by)| by == method), "{purses:?}");
        world.close().await;
        let credited = world.payee.session.credited();
        let earned = world.payee_purses.spendable().await;
        assert_eq!(sat(earned), credited, "{method}");
        assert!(earned >= 16 + 4, "{method}: {earned}");
        let left = world.payer_purses.spendable().await;
        assert_eq!(left + earned, 500, "{method}");
    }
}
