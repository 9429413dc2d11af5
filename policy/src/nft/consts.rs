//! Numbers of `linux/netfilter/nf_tables.h`, `nfnetlink.h` and of nft's userdata, under their names there.

/// The kernel picks the number in the name.
pub(super) const ANONYMOUS_SET: &str = "__set%d";
pub(super) const ANONYMOUS_MAP: &str = "__map%d";

pub(super) const NFPROTO_INET: u8 = 1;
pub(super) const NFPROTO_IPV4: u8 = 2;
pub(super) const NFPROTO_IPV6: u8 = 10;

pub(super) const NLM_F_ACK: u16 = 4;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_APPEND: u16 = 0x800;

pub(super) const NFNL_SUBSYS_NFTABLES: u16 = 10;
pub(super) const NFNL_MSG_BATCH_BEGIN: u16 = 16;
pub(super) const NFNL_MSG_BATCH_END: u16 = 17;

const fn nft(message: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | message
}
pub(super) const NEWTABLE: u16 = nft(0);
pub(super) const GETTABLE: u16 = nft(1);
pub(super) const DELTABLE: u16 = nft(2);
pub(super) const NEWCHAIN: u16 = nft(3);
pub(super) const GETCHAIN: u16 = nft(4);
pub(super) const DELCHAIN: u16 = nft(5);
pub(super) const NEWRULE: u16 = nft(6);
pub(super) const GETRULE: u16 = nft(7);
pub(super) const DELRULE: u16 = nft(8);
pub(super) const NEWSET: u16 = nft(9);
pub(super) const GETSET: u16 = nft(10);
pub(super) const DELSET: u16 = nft(11);
pub(super) const NEWSETELEM: u16 = nft(12);
pub(super) const GETSETELEM: u16 = nft(13);
pub(super) const DELSETELEM: u16 = nft(14);
pub(super) const NEWGEN: u16 = nft(15);

/// The first attribute of every object is the name of its table.
pub(super) const OBJECT_TABLE: u16 = 1;
pub(super) const LIST_ELEM: u16 = 1;

pub(super) const TABLE_FLAGS: u16 = 2;
pub(super) const TABLE_OWNER: u16 = 7;

pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_POLICY: u16 = 5;
pub(super) const CHAIN_TYPE: u16 = 7;
pub(super) const HOOK_HOOKNUM: u16 = 1;
pub(super) const HOOK_PRIORITY: u16 = 2;

pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
pub(super) const RULE_USERDATA: u16 = 7;

pub(super) const SET_NAME: u16 = 2;
pub(super) const SET_FLAGS: u16 = 3;
pub(super) const SET_KEY_TYPE: u16 = 4;
pub(super) const SET_KEY_LEN: u16 = 5;
pub(super) const SET_DATA_TYPE: u16 = 6;
pub(super) const SET_DATA_LEN: u16 = 7;
pub(super) const SET_DESC: u16 = 9;
pub(super) const SET_ID: u16 = 10;
pub(super) const SET_USERDATA: u16 = 13;
pub(super) const SET_DESC_SIZE: u16 = 1;
pub(super) const SET_DESC_CONCAT: u16 = 2;
pub(super) const SET_FIELD_LEN: u16 = 1;
pub(super) const SET_ANONYMOUS: u32 = 0x01;
pub(super) const SET_CONSTANT: u32 = 0x02;
pub(super) const SET_INTERVAL: u32 = 0x04;
pub(super) const SET_MAP: u32 = 0x08;
pub(super) const SET_CONCAT: u32 = 0x80;
/// `NFT_DATA_VERDICT`
pub(super) const DATA_TYPE_VERDICT: u32 = 0xffff_ff00;

pub(super) const SETELEM_SET: u16 = 2;
pub(super) const SETELEM_LIST: u16 = 3;
pub(super) const SETELEM_SET_ID: u16 = 4;
pub(super) const ELEM_KEY: u16 = 1;
pub(super) const ELEM_DATA: u16 = 2;
pub(super) const ELEM_KEY_END: u16 = 10;

pub(super) const DATA_VALUE: u16 = 1;
pub(super) const DATA_VERDICT: u16 = 2;
pub(super) const VERDICT_CODE: u16 = 1;
pub(super) const VERDICT_CHAIN: u16 = 2;
pub(super) const NF_DROP: i32 = 0;
pub(super) const NF_ACCEPT: i32 = 1;
pub(super) const NFT_JUMP: i32 = -3;
pub(super) const NFT_GOTO: i32 = -4;
pub(super) const NFT_RETURN: i32 = -5;

pub(super) const EXPR_NAME: u16 = 1;
pub(super) const EXPR_DATA: u16 = 2;
pub(super) const REG_VERDICT: u32 = 0;
pub(super) const META_DREG: u16 = 1;
pub(super) const META_KEY: u16 = 2;
pub(super) const META_IIFNAME: u32 = 6;
pub(super) const META_OIFNAME: u32 = 7;
pub(super) const META_NFPROTO: u32 = 15;
pub(super) const META_L4PROTO: u32 = 16;
pub(super) const PAYLOAD_DREG: u16 = 1;
pub(super) const PAYLOAD_BASE: u16 = 2;
pub(super) const PAYLOAD_OFFSET: u16 = 3;
pub(super) const PAYLOAD_LEN: u16 = 4;
pub(super) const BASE_NETWORK: u32 = 1;
pub(super) const BASE_TRANSPORT: u32 = 2;
pub(super) const CMP_SREG: u16 = 1;
pub(super) const CMP_OP: u16 = 2;
pub(super) const CMP_DATA: u16 = 3;
pub(super) const CMP_EQ: u32 = 0;
pub(super) const CMP_NEQ: u32 = 1;
pub(super) const BITWISE_SREG: u16 = 1;
pub(super) const BITWISE_DREG: u16 = 2;
pub(super) const BITWISE_LEN: u16 = 3;
pub(super) const BITWISE_MASK: u16 = 4;
pub(super) const BITWISE_XOR: u16 = 5;
pub(super) const LOOKUP_SET: u16 = 1;
pub(super) const LOOKUP_SREG: u16 = 2;
pub(super) const LOOKUP_DREG: u16 = 3;
pub(super) const LOOKUP_SET_ID: u16 = 4;
pub(super) const IMMEDIATE_DREG: u16 = 1;
pub(super) const IMMEDIATE_DATA: u16 = 2;
pub(super) const CT_DREG: u16 = 1;
pub(super) const CT_KEY: u16 = 2;
pub(super) const CT_STATE: u32 = 0;
pub(super) const CT_STATUS: u32 = 2;
pub(super) const CT_MARK: u32 = 3;
pub(super) const CT_STATE_ESTABLISHED: u32 = 2;
pub(super) const CT_STATE_RELATED: u32 = 4;
/// `IPS_DST_NAT`
pub(super) const CT_STATUS_DNAT: u32 = 0x20;
pub(super) const FIB_DREG: u16 = 1;
pub(super) const FIB_RESULT: u16 = 2;
pub(super) const FIB_FLAGS: u16 = 3;
pub(super) const FIB_RESULT_ADDRTYPE: u32 = 3;
pub(super) const FIB_F_DADDR: u32 = 2;
/// `RTN_LOCAL`
pub(super) const FIB_TYPE_LOCAL: u32 = 2;
pub(super) const NAT_TYPE: u16 = 1;
pub(super) const NAT_FAMILY: u16 = 2;
pub(super) const NAT_REG_ADDR_MIN: u16 = 3;
pub(super) const NAT_REG_PROTO_MIN: u16 = 5;
pub(super) const NAT_DNAT: u32 = 1;
pub(super) const LIMIT_RATE: u16 = 1;
pub(super) const LIMIT_UNIT: u16 = 2;
pub(super) const LIMIT_BURST: u16 = 3;
pub(super) const LIMIT_TYPE: u16 = 4;
pub(super) const LIMIT_FLAGS: u16 = 5;
pub(super) const LOG_GROUP: u16 = 1;
pub(super) const LOG_PREFIX: u16 = 2;
pub(super) const LOG_SNAPLEN: u16 = 3;

/// nft's own type numbers: they are nothing to the kernel, but `nft list` reads them.
pub(super) const TYPE_IPV4_ADDR: u32 = 7;
pub(super) const TYPE_IPV6_ADDR: u32 = 8;
pub(super) const TYPE_INET_PROTO: u32 = 12;
pub(super) const TYPE_INET_SERVICE: u32 = 13;
pub(super) const TYPE_ICMPV6_TYPE: u32 = 29;
pub(super) const TYPE_IFNAME: u32 = 41;
/// A concatenation's type is its fields' types, six bits each, the last lowest.
pub(super) const TYPE_BITS: u32 = 6;

/// libnftnl's userdata: type, length, value, each of the first two one byte.
pub(super) const UDATA_RULE_COMMENT: u8 = 0;
pub(super) const UDATA_SET_KEYBYTEORDER: u8 = 0;
pub(super) const UDATA_SET_DATABYTEORDER: u8 = 1;
pub(super) const BYTEORDER_NONE: u32 = 0;
pub(super) const BYTEORDER_HOST: u32 = 1;
pub(super) const BYTEORDER_NETWORK: u32 = 2;
/// Ours, far from nft's numbers; nft skips the types that it does not know.
pub(super) const UDATA_RULE_DIGEST: u8 = 0x77;
