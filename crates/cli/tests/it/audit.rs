//! The record of changes, as people look at it and check it.

use crate::world::World;

#[test]
fn changes_are_listed_and_a_change_of_the_record_is_found() {
    let world = World::new();
    let said = world.run("tokensink audit verify").code(0);
    assert!(said.out.contains("nothing was changed yet"), "{said:#?}");
    for name in ["one", "two", "three"] {
        world
            .run(&format!("tokensink keys add {name} --agent main"))
            .code(0);
    }
    let said = world.run("tokensink audit list --limit 2").code(0);
    assert!(
        said.out.contains("three") && !said.out.contains("one"),
        "{said:#?}"
    );
    assert!(said.err.contains("1 earlier not shown"), "{said:#?}");
    let list = world.run("tokensink audit list --json").code(0).json();
    assert_eq!(
        (&list[0]["event"], &list[2]["client"]),
        (&"key_add".into(), &"three".into())
    );
    let said = world.run("tokensink audit verify").code(0);
    assert!(
        said.out.starts_with("whole: ") && said.out.contains("3 lines"),
        "{said:#?}"
    );
    let value = world.run("tokensink audit verify --json").code(0).json();
    let head = value["head"].as_str().unwrap().to_owned();

    let trail = world.state("tokensink/audit.jsonl");
    let whole = std::fs::read_to_string(&trail).unwrap();
    std::fs::write(&trail, whole.replace("two", "owt")).unwrap();
    let said = world.run("tokensink audit verify").code(1);
    assert!(
        said.out.contains("line 3") && said.out.contains("line 2 was changed"),
        "{said:#?}"
    );
    let value = world.run("tokensink audit verify --json").code(1).json();
    assert_eq!(
        (&value["whole"], &value["fault"]["line"]),
        (&false.into(), &3.into())
    );

    let cut: String = whole.lines().take(2).map(|line| format!("{line}\n")).collect();
    std::fs::write(&trail, cut).unwrap();
    world.run("tokensink audit verify").code(0);
    let said = world
        .run(&format!("tokensink audit verify --head {head}"))
        .code(1);
    assert!(said.out.contains("cut short"), "{said:#?}");
    world.run("tokensink audit verify --head 12").code(2);
}
