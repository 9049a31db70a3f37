//! The Unix socket, when the gateway that serves it ends.

use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use tokensink_gateway::{Bounds, Gateway, Options, Running};

use crate::world::{KEY, World, client, eventually};

/// How often a gateway of these tests looks.
const LOOK: Duration = Duration::from_millis(20);

fn gateway(world: &World) -> Running {
    gateway_looking(world, LOOK)
}

fn gateway_looking(world: &World, socket_look: Duration) -> Running {
    let options = Options {
        keys: vec![(KEY.into(), tokensink_sink::AgentId::main())],
        socket: true,
        bounds: Bounds {
            socket_look,
            ..Bounds::default()
        },
        workers: 1,
        ..Options::default()
    };
    Gateway::start(world.sink(), &options).unwrap()
}

fn waits() -> World {
    World::new(&["one"], |_, talk| {
        talk.begin_events();
        let _ = talk.left_within(Duration::from_secs(20));
    })
}

#[test]
fn who_takes_over_says_so() {
    let world = waits();
    let first = gateway(&world);
    let path = first.socket().unwrap();
    let second = gateway(&world);
    assert_eq!(second.socket(), None);
    let (sender, served) = mpsc::channel();
    let also = sender.clone();
    second.when_socket_is_served(move |path| sender.send(path.to_owned()).unwrap());
    assert!(served.try_recv().is_err(), "it is not its socket yet");
    drop(first);
    assert_eq!(served.recv_timeout(Duration::from_secs(10)).unwrap(), path);
    assert_eq!(second.socket().as_ref(), Some(&path));
    second.when_socket_is_served(move |path| also.send(path.to_owned()).unwrap());
    assert_eq!(served.try_recv().unwrap(), path, "it has it by now");
}

#[test]
fn who_is_about_to_end_takes_nothing_over() {
    let world = waits();
    let first = gateway(&world);
    let second = gateway(&world);
    let mut streaming = client(&second);
    streaming.post("/rig/long", "{}").head().unwrap();
    let address = second.addresses()[0];
    let ending = std::thread::spawn(move || second.shutdown(Duration::from_secs(20)));
    eventually("the end of its listening", || {
        TcpStream::connect(address).is_err()
    });
    // One that looks twenty times less often gets it all the same.
    let third = gateway_looking(&world, 20 * LOOK);
    drop(first);
    eventually("the third's turn", || third.socket().is_some());
    assert!(!ending.is_finished(), "its request still runs");
    drop(streaming);
    ending.join().unwrap();
}
