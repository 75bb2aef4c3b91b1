use super::*;

fn names(text: &str) -> Result<Vec<(String, bool)>> {
    let name = |part: &Part<'_>| String::from_utf8(unescape(part.name).unwrap()).unwrap();
    Ok(split_lower(text.as_bytes())?.iter().map(|part| (name(part), part.data)).collect())
}

#[test]
fn lowerdir_is_split_at_colons() {
    let plain = |names: &[&str]| names.iter().map(|n| (n.to_string(), false)).collect::<Vec<_>>();
    assert_eq!(names("/a").unwrap(), plain(&["/a"]));
    assert_eq!(names("/a:b:/c d").unwrap(), plain(&["/a", "b", "/c d"]));
    assert_eq!(names(r"/a\:b:/c\\").unwrap(), plain(&["/a:b", r"/c\"]));
    assert_eq!(names(r"a\,b").unwrap(), plain(&["a,b"]));
    let data = names("/a:/b::/c::/d").unwrap();
    assert_eq!(data.iter().map(|(_, data)| *data).collect::<Vec<_>>(), [false, false, true, true]);
    for bad in [":a", "a:", "a::", "a:::b", "a::b:c"] {
        assert_eq!(names(bad), Err(Errno::EINVAL), "{bad}");
    }
    assert_eq!(names(&["a"; MAX_LAYERS].join(":")).unwrap().len(), MAX_LAYERS);
    assert_eq!(names(&["a"; MAX_LAYERS + 1].join(":")), Err(Errno::EINVAL));
}

#[test]
fn options_end_at_commas_that_are_not_escaped() {
    let setup = Setup::default();
    let end = |text: &str| setup.first_end(text.as_bytes());
    assert_eq!(end("lowerdir=a,upperdir=b"), 10);
    assert_eq!(end(r"lowerdir=a\,b,x"), 13);
    assert_eq!(end("volatile"), 8);
    assert_eq!(end(r"a\"), 2);
    assert_eq!(end(""), 0);
}

#[test]
fn options_depend_on_each_other() {
    let root = Credentials::root();
    let mut config = Config { workdir: Some(b"w".to_vec()), fsync: Fsync::Volatile, ..Config::default() };
    config.verify(&root).unwrap();
    assert!(config.workdir.is_none() && config.fsync == Fsync::Auto);
    let mut config = Config { userxattr: true, ..Config::default() };
    config.verify(&root).unwrap();
    assert_eq!(config.redirect, Redirect::NoFollow);
    let given =
        |redirect, userxattr| Config { redirect, redirect_given: true, userxattr, ..Config::default() };
    assert_eq!(given(Redirect::On, true).verify(&root), Err(Errno::EINVAL));
    assert_eq!(given(Redirect::NoFollow, true).verify(&root), Ok(()));
    let user = Credentials::user(abi::creds::Uid(1), abi::creds::Gid(1), &[]);
    assert_eq!(given(Redirect::On, false).verify(&user), Err(Errno::EPERM));
    assert_eq!(Config::default().verify(&user), Ok(()));
}

#[test]
fn shown_options() {
    let config = Config {
        lowerdir_all: Some(b"a:b c,d".to_vec()),
        upperdir: Some(b"u".to_vec()),
        workdir: Some(b"w".to_vec()),
        redirect: Redirect::On,
        xino: Xino::On,
        uuid: Uuid::Null,
        fsync: Fsync::Volatile,
        userxattr: true,
        ..Config::default()
    };
    let mut out = String::new();
    config.show(false, &mut out).unwrap();
    assert_eq!(
        out,
        ",lowerdir=a:b\\040c\\054d,upperdir=u,workdir=w,redirect_dir=on,uuid=null,xino=on,fsync=volatile,userxattr"
    );
    let mut out = String::new();
    let lower = vec![b"x".to_vec(), b"y".to_vec()];
    Config { lower, ..Config::default() }.show(true, &mut out).unwrap();
    assert_eq!(out, ",lowerdir+=x,lowerdir+=y");
}
