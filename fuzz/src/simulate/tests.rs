use super::run::make_world;
use super::store::SimStore;
use super::*;

/// Seeds 3712, 5120, 5440 and 5504 once said that a store did not open again: the disk failed
/// while the process was down, so that nothing could be read.
#[test]
fn disk_that_fails_while_a_process_starts_is_no_broken_file() {
    for operations in [0, 1, 5, 12] {
        let mut world = make_world(64, &Options::default());
        assert!(matches!(world.nodes[0].store, SimStore::Redb { .. }));
        world.die(0, 1_000, None);
        world.nodes[0].store.fail_in_operations(operations);
        world.come_back(0);
        assert!(!world.nodes[0].up, "after {operations} operations");
        assert_eq!(world.violation, None);
        world.come_back(0);
        assert!(world.nodes[0].up, "after {operations} operations");
    }
}
