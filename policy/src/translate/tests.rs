use ipnetwork::IpNetwork;

use super::parse_cidr;

#[test]
fn cidrs_are_read_as_old_go_read_them() {
    let cases = [
        ("10.0.0.0/8", Some("10.0.0.0/8")),
        ("10.1.2.3/8", Some("10.0.0.0/8")),
        ("010.001.000.009/24", Some("10.1.0.0/24")),
        ("0.0.0.0/0", Some("0.0.0.0/0")),
        ("10.0.0.0/08", Some("10.0.0.0/8")),
        ("::ffff:10.1.2.3/104", Some("10.0.0.0/8")),
        ("::ffff:10.1.2.3/96", Some("0.0.0.0/0")),
        ("::ffff:10.1.2.3/64", Some("::/64")),
        ("0000fd00:0001::00001/48", Some("fd00:1::/48")),
        ("::/0", Some("::/0")),
        ("::1.2.3.4/128", Some("::102:304/128")),
        ("10.0.0.0", None),
        ("10.0.0/8", None),
        ("10.0.0.0.0/8", None),
        ("10.0.0.256/8", None),
        ("10.0.0.0/33", None),
        ("10.0.0.0/+8", None),
        ("10.0.0.0/-1", None),
        ("10.0.0.0/", None),
        ("+10.0.0.0/8", None),
        ("10..0.0/8", None),
        ("::/129", None),
        ("fe80::1%eth0/64", None),
        ("1:2:3/64", None),
        (":::/64", None),
        ("fd00::12345/64", None),
        ("", None),
        ("/", None),
    ];
    for (text, meaning) in cases {
        let meaning: Option<IpNetwork> = meaning.map(|text| text.parse().unwrap());
        assert_eq!(parse_cidr(text), meaning, "{text}");
    }
}
