//! Who gets in, who does not, who is sent out, and under which name.

use super::*;
use crate::session::vectors;

#[test]
fn open_room_takes_everybody_up_to_its_size_and_says_who_they_are() {
    let mut hall = Hall::new(config());
    for n in 0..4 {
        hall.bound(n);
        assert!(is_in(&hall.join(n)));
    }
    hall.bound(4);
    assert_eq!(hall.join(4), refused(RoomCode::Full));
    assert_eq!(hall.room.viewers(), 5, "who may not join may watch");
    hall.ask(0, RoomAsk::Leave);
    assert!(is_in(&hall.join(4)));
    // A repetition is answered alike.
    assert_eq!(hall.join(4), hall.join(4));
    let names: BTreeSet<_> = hall
        .room
        .names()
        .map(|(name, _)| name.to_string())
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
}

#[test]
fn reasons_to_refuse_come_in_their_order_and_the_fee_last() {
    let mut hall = Hall::new(listed());
    hall.bound(1);
    hall.host(HostCommand::Ban(who(1)));
    let bad = "a#b";
    assert_eq!(hall.join_with(1, bad, None, 5), refused(RoomCode::Banned));
    hall.host(HostCommand::Unban(who(1)));
    assert_eq!(
        hall.join_with(1, bad, None, 5),
        refused(RoomCode::NotInvited)
    );
    hall.host(HostCommand::Allow(who(1)));
    for n in 10..14 {
        hall.host(HostCommand::Allow(who(n)));
        hall.bound(n);
        hall.join(n);
    }
    assert_eq!(hall.join_with(1, bad, None, 5), refused(RoomCode::Full));
    hall.gone(10);
    assert_eq!(hall.join_with(1, bad, None, 5), refused(RoomCode::BadName));
    hall.pass(5_000);
    assert_eq!(hall.join_with(1, "a", None, 5), refused(RoomCode::Unpaid));
    assert!(is_in(&hall.join_with(1, "a", None, 0)));
}

#[test]
fn invitation_lets_in_as_many_identities_as_it_says_each_once() {
    let mut hall = Hall::new(listed());
    let (single, double) = (Some(invitation(1)), Some(invitation(2)));
    for (invitation, uses) in [(single.unwrap(), 1), (double.unwrap(), 2)] {
        let expires = Unix(2_000);
        hall.host(HostCommand::Invite {
            invitation,
            uses,
            expires,
        });
    }
    (1..=5).for_each(|n| hall.bound(n));
    assert_eq!(
        hall.join_with(1, "a", None, 0),
        refused(RoomCode::NotInvited)
    );
    let wrong = Some(invitation(3));
    assert_eq!(
        hall.join_with(1, "a", wrong, 0),
        refused(RoomCode::NotInvited)
    );
    assert!(is_in(&hall.join_with(1, "a", single, 0)));
    let again = hall.join_with(2, "b", single, 0);
    assert_eq!(again, refused(RoomCode::NotInvited), "it is used");
    assert!(is_in(&hall.join_with(2, "b", double, 0)));
    // The same identity does not use it twice, in another session either.
    hall.bound_as(22, 2);
    assert!(is_in(&hall.join_with(22, "b", double, 0)));
    hall.restart();
    (1..=5).for_each(|n| hall.bound(n));
    assert!(is_in(&hall.join_with(1, "a", None, 0)), "it is on the list");
    assert!(is_in(&hall.join_with(3, "c", double, 0)));
    assert_eq!(
        hall.join_with(4, "d", double, 0),
        refused(RoomCode::NotInvited)
    );
}

#[test]
fn who_was_taken_off_the_list_does_not_come_back_by_the_invitation_that_it_used() {
    let mut hall = Hall::new(listed());
    let (public, expires) = (invitation(1), Unix(2_000));
    hall.host(HostCommand::Invite {
        invitation: public,
        uses: 5,
        expires,
    });
    hall.bound(1);
    assert!(is_in(&hall.join_with(1, "a", Some(public), 0)));
    hall.host(HostCommand::Disallow(who(1)));
    hall.host(HostCommand::Kick(who(1)));
    hall.gone(1);
    for restarts in [false, true] {
        if restarts {
            hall.restart();
        }
        hall.bound(1);
        let again = hall.join_with(1, "a", Some(public), 0);
        assert_eq!(again, refused(RoomCode::NotInvited), "{restarts}");
        assert_eq!(hall.room.invitations[&public.0].left, 4, "{restarts}");
    }
    hall.host(HostCommand::Allow(who(1)));
    assert!(is_in(&hall.join_with(1, "a", None, 0)));
}

/// The host's own word has a part of the list to itself.
#[test]
fn invitation_that_went_far_keeps_no_ban_from_being_kept() {
    let mut hall = Hall::new(listed());
    let (public, expires) = (invitation(1), Unix(2_000));
    hall.host(HostCommand::Invite {
        invitation: public,
        uses: 20_000,
        expires,
    });
    let most = u64::try_from(hall.room.config.lists_max()).unwrap();
    let mut changes = ChangeSet::new();
    for n in 0..most {
        let mut key = [9; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        if hall.room.has_room_for_guests() {
            let standing = Standing {
                invited: true,
                ..Default::default()
            };
            assert!(
                hall.room
                    .put_standing(XOnlyKey(key), standing, &mut changes)
            );
        }
    }
    hall.bound(1);
    let late = hall.join_with(1, "a", Some(public), 0);
    assert_eq!(late, refused(RoomCode::Full));
    hall.host(HostCommand::Ban(who(2)));
    hall.restart();
    assert!(hall.room.standing(who(2)).banned);
}

#[test]
fn invitation_ends_with_its_time_and_by_the_hosts_word() {
    let mut hall = Hall::new(listed());
    let (uses, expires) = (9, Unix(1_010));
    for n in 1..=2 {
        hall.host(HostCommand::Invite {
            invitation: invitation(n),
            uses,
            expires,
        });
    }
    hall.host(HostCommand::Revoke(invitation(1)));
    (1..=3).for_each(|n| hall.bound(n));
    let revoked = hall.join_with(1, "a", Some(invitation(1)), 0);
    assert_eq!(revoked, refused(RoomCode::NotInvited));
    assert!(is_in(&hall.join_with(2, "b", Some(invitation(2)), 0)));
    hall.now.unix = Unix(1_010);
    let late = hall.join_with(3, "c", Some(invitation(2)), 0);
    assert_eq!(late, refused(RoomCode::NotInvited));
    // The next one that is given out drops it.
    hall.host(HostCommand::Invite {
        invitation: invitation(4),
        uses,
        expires: Unix(u64::MAX),
    });
    assert_eq!(hall.room.invitations.len(), 1);
}

#[test]
fn invitation_is_kept_for_who_has_yet_to_pay() {
    let mut hall = Hall::new(listed());
    hall.host(HostCommand::Invite {
        invitation: invitation(1),
        uses: 1,
        expires: Unix(u64::MAX),
    });
    (1..=2).for_each(|n| hall.bound(n));
    let shown = Some(invitation(1));
    assert_eq!(hall.join_with(1, "a", shown, 9), refused(RoomCode::Unpaid));
    assert_eq!(
        hall.join_with(2, "b", shown, 0),
        refused(RoomCode::NotInvited)
    );
    assert!(is_in(&hall.join_with(1, "a", shown, 0)));
}

#[test]
fn crash_at_any_output_uses_an_invitation_once() {
    for left in 0..8 {
        let mut hall = Hall::new(listed());
        hall.host(HostCommand::Invite {
            invitation: invitation(1),
            uses: 1,
            expires: Unix(u64::MAX),
        });
        (1..=2).for_each(|n| hall.bound(n));
        hall.left = left;
        hall.told.clear();
        let ask = |n: u8| RoomAsk::Join {
            name: Name::new("a").unwrap(),
            invitation: Some(invitation(1)),
            unpaid: Msat::new(n.into()).unwrap(),
        };
        hall.ask(1, ask(0));
        let first = hall.told.iter().any(|(n, news)| *n == 1 && is_in(news));
        hall.restart();
        (1..=2).for_each(|n| hall.bound(n));
        hall.told.clear();
        hall.ask(2, ask(0));
        let second = hall.told.iter().any(|(n, news)| *n == 2 && is_in(news));
        assert!(!(first && second), "both are in after {left} outputs");
        assert_eq!(second, left == 0, "{left}");
        assert!(is_in(&hall.join_with(1, "a", None, 0)) != second);
    }
}

#[test]
fn ban_ends_all_sessions_and_survives_a_restart_and_a_kick_does_not() {
    let mut hall = Hall::new(config());
    hall.bound_as(1, 7);
    hall.bound_as(2, 7);
    hall.bound(3);
    hall.host(HostCommand::Kick(who(7)));
    let both = |code| [(1, code), (2, code)];
    assert_eq!(hall.closed, both(CloseCode::Removed));
    (1..=2).for_each(|n| hall.gone(n));
    hall.bound_as(1, 7);
    hall.bound_as(2, 7);
    assert_eq!(hall.closed.len(), 2, "who was sent out may come back");
    hall.host(HostCommand::Ban(who(7)));
    assert_eq!(hall.closed[2..], both(CloseCode::Banned));
    hall.restart();
    hall.bound_as(1, 7);
    assert_eq!(hall.closed[4..], [(1, CloseCode::Banned)]);
    hall.host(HostCommand::Unban(who(7)));
    hall.restart();
    hall.bound_as(1, 7);
    assert!(is_in(&hall.join(1)));
}

#[test]
fn who_is_banned_never_counts_and_is_not_there() {
    let mut hall = Hall::new(config());
    hall.bound(1);
    hall.join(1);
    hall.bound_as(2, 7);
    assert!(is_in(&hall.join(2)));
    hall.host(HostCommand::Ban(who(7)));
    hall.pass(1_000);
    let (epoch, told) = (hall.room.epoch, hall.told.len());
    // On a new connection, which takes the place of the old one.
    hall.bound_as(2, 7);
    assert_eq!(hall.room.viewers(), 1);
    assert_eq!(hall.room.names().count(), 1);
    assert_eq!(hall.room.epoch, epoch + 1, "it counted until then");
    hall.pass(1_000);
    assert!(hall.told.len() > told, "the others are told");
    for _ in 0..3 {
        hall.pass(1_000);
        hall.told.clear();
        hall.bound_as(2, 7);
        let name = Name::new("x").unwrap();
        let (invitation, unpaid) = (None, Msat::ZERO);
        hall.ask(
            2,
            RoomAsk::Join {
                name,
                invitation,
                unpaid,
            },
        );
        hall.gone(2);
        assert_eq!(hall.room.epoch, epoch + 1, "the number does not move");
        assert!(hall.told.is_empty(), "{:?}", hall.told);
    }
    assert_eq!(hall.closed.len(), 5);
    hall.input(RoomInput::PersistFailed);
    hall.bound_as(2, 7);
    assert_eq!(hall.room.viewers(), 2, "nobody sends it out any more");
}

#[test]
fn ban_is_durable_before_anybody_is_sent_out() {
    let mut hall = Hall::new(config());
    hall.bound(1);
    hall.left = 1;
    hall.host(HostCommand::Ban(who(1)));
    assert!(hall.closed.is_empty());
    hall.restart();
    hall.bound(1);
    assert_eq!(hall.closed, [(1, CloseCode::Banned)]);
}

#[test]
fn nobody_can_take_the_name_of_another() {
    let mut hall = Hall::new(config());
    let asked = ["ann", " ann ", "ann", "a\u{301}nn"];
    for (n, asked) in (0..).zip(asked) {
        hall.bound(n);
        assert!(is_in(&hall.join_with(n, asked, None, 0)));
    }
    let names: BTreeSet<_> = hall
        .room
        .names()
        .map(|(name, _)| name.to_string())
        .collect();
    assert_eq!(names.len(), 4);
    let mark = name::shown("ann", who(0), |_| false).unwrap();
    // What looks like a mark is no name, and a name of marks alone neither.
    for forged in [mark.as_str(), "#", "  ", "\u{3000}"] {
        assert_eq!(name::shown(forged, who(1), |_| false), None, "{forged:?}");
    }
    let longer = name::shown("ann", who(0), |name| name == mark).unwrap();
    assert!(longer.starts_with(&mark) && longer.len() == mark.len() + 2);
    assert_eq!(name::shown("ann", who(0), |_| true), None);
    // However long, 32 bytes at most, and no letter is cut in two.
    for asked in ["x".repeat(32), "ü".repeat(16), "😀".repeat(8)] {
        let name = name::shown(&asked, who(0), |_| false).unwrap();
        assert!(name.len() <= 29 && Name::new(name).is_ok());
    }
}

#[test]
fn mark_begins_as_the_hash_that_the_vectors_show() {
    let identity = XOnlyKey([0x6e; 32]);
    let name = name::shown("ann", identity, |_| false).unwrap();
    let longer = name::shown("ann", identity, |known| known == name).unwrap();
    for (name, digits) in [(name, 8), (longer, 10)] {
        let mark = name.strip_prefix("ann#").unwrap();
        assert_eq!(mark.len(), digits);
        assert!(vectors::have_one_from(mark), "{name}");
    }
}
