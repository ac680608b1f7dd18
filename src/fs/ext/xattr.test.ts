import { describe, expect, it } from "vitest";
import { makeTestCore, superblockWith, type TestCore } from "../../../test/support/ext-core.ts";
import {
  ascii,
  type InodeFields,
  inodeWith,
  inodeXattrs,
  putXattrBlock,
  type XattrFields,
} from "../../../test/support/ext-names.ts";
import { bytesOfDump } from "../../../test/support/ext-vectors.ts";
import { hexOf, putLe16, putLe32 } from "../../lib/bytes.ts";
import { xattrEntryHashes } from "./ea-inode.ts";
import type { ExtInode } from "./inode.ts";
import { INLINE_DATA_FL, S_IFREG, SB } from "./layout.ts";
import { inlineDataOf, readXattrs } from "./xattr.ts";
import { verifyXattrBlock } from "./xattr-area.ts";

const SEED_OF_B = 0x688c_b585;
const FILE: InodeFields = { mode: S_IFREG | 0o644 };

/** In-inode areas of 256-byte inodes, from 0xa0, as the kernel wrote them. */
const AREA_OF_FOUR = `
  0a0  000002ea 01045800 00000000 02000000 00000000 74000000 05010000 00000000
  0c0  00000000 00000000 656d7074 79000000 01065000 00000000 05000000 00000000
  0e0  71000000 00000000 00000000 00000000 00000000 31323334 35000000 74740000
`;
const AREA_OF_TWO = `
  0a0  000002ea 01015800 00000000 01000000 00000000 61000000 04015000 00000000
  0c0  05000000 00000000 6e616d65 00000000 00000000 00000000 00000000 00000000
  0e0  00000000 00000000 00000000 00000000 00000000 76616c75 65000000 31000000
`;
const AREA_OF_ACL = `
  0a0  000002ea 00023800 00000000 24000000 00000000 00000000 00000000 00000000
  0c0  00000000 00000000 00000000 00000000 00000000 00000000 00000000 01000000
  0e0  01000600 02000400 e8030000 04000400 08000600 70110100 10000600 20000000
`;
const AREA_OF_INLINE = `
  0a0  000002ea 04075800 00000000 01000000 00000000 64617461 00000000 00000000
  0e0  00000000 00000000 00000000 00000000 00000000 00000000 00000000 62000000
`;
/** Head of block 2115 of image K; bytes ed4..fff are 42. */
const BLOCK_K = `
  000  000002ea 01000000 01000000 434205c7 f1f0b7d5 00000000 00000000 00000000
  020  0301d40e 00000000 2c010000 434205c7 62696700 00000000 00000000 00000000
`;

function area(dump: string): Uint8Array {
  return bytesOfDump(dump, 0x60, 0xa0);
}

async function shown(test: TestCore, inode: ExtInode): Promise<Record<string, string>> {
  const xattrs = await test.core.metadata.run(() => readXattrs(test.core, inode));
  return Object.fromEntries([...xattrs].map(([name, value]) => [name, hexOf(value)]));
}

function withXattrs(dump: string): { readonly test: TestCore; readonly inode: ExtInode } {
  const test = makeTestCore(superblockWith());
  return { test, inode: inodeWith(test.core.sb, { ...FILE, xattrs: area(dump) }) };
}

describe("attributes in the inode", () => {
  it("that the kernel wrote are read", async () => {
    const four = withXattrs(AREA_OF_FOUR);
    expect(await shown(four.test, four.inode)).toEqual({
      "trusted.t": hexOf(ascii("tt")),
      "user.empty": "",
      "security.q": hexOf(ascii("12345")),
    });
    const two = withXattrs(AREA_OF_TWO);
    expect(await shown(two.test, two.inode)).toEqual({
      "user.a": hexOf(ascii("1")),
      "user.name": hexOf(ascii("value")),
    });
    const acl = withXattrs(AREA_OF_ACL);
    expect((await shown(acl.test, acl.inode))["system.posix_acl_access"]).toMatch(/^02000000/);
  });

  it("are none without the magic number, the room or the extra fields", async () => {
    const test = makeTestCore(superblockWith());
    const changed = area(AREA_OF_TWO);
    changed[0] = 1;
    const inode = inodeWith(test.core.sb, { ...FILE, xattrs: changed });
    expect(await shown(test, inode)).toEqual({});
    const small = makeTestCore(superblockWith([SB.s_inode_size, 128]));
    expect(await shown(small, inodeWith(small.core.sb, FILE))).toEqual({});
  });

  it("that users do not see are left out", async () => {
    const test = makeTestCore(superblockWith([SB.s_inode_size, 1024]));
    const attributes: XattrFields[] = [
      { index: 7, name: "data", value: ascii("x") },
      { index: 9, name: "c", value: ascii("context") },
      { index: 5, name: "lustre", value: ascii("l") },
      { index: 8, name: "", value: ascii("r") },
      { index: 99, name: "u" },
    ];
    const xattrs = inodeXattrs(1024, attributes);
    const inode = inodeWith(test.core.sb, { ...FILE, xattrs });
    expect(await shown(test, inode)).toEqual({});
  });

  it("keep names that look like parts of JavaScript, and those that are not UTF-8", async () => {
    const test = makeTestCore(superblockWith([SB.s_inode_size, 1024]));
    const xattrs = inodeXattrs(1024, [
      { index: 1, name: "__proto__", value: ascii("1") },
      { index: 1, name: "é??", value: ascii("2") },
    ]);
    xattrs.set([0xff, 0xc3], xattrs.indexOf(0x3f));
    const inode = inodeWith(test.core.sb, { ...FILE, xattrs });
    const found = await test.core.metadata.run(() => readXattrs(test.core, inode));
    expect([...found.keys()]).toEqual(["user.__proto__", "user.é\udcff\udcc3"]);
  });

  const damages: readonly (readonly [string, (area: Uint8Array) => unknown, RegExp])[] = [
    ["names without end", (a) => a.fill(0xff, 4), /entry at 164: e_name_len is too large/],
    ["a name past the end", (a) => a.fill(0xff, 4, 5), /e_name_len is too large/],
    ["a NUL in a name", (a) => a.fill(0, 41, 42), /NUL in its name/],
    ["a value among the names", (a) => putLe16(a, 6, 4), /entry at 164: e_value_offs is 4, among/],
    ["a value on the end of the names", (a) => putLe16(a, 6, 40), /e_value_offs is 40, among/],
    ["a value past the end", (a) => putLe16(a, 6, 0x60), /past the end/],
    ["a value too long", (a) => putLe32(a, 12, 5), /past the end/],
    [
      "a length beyond all limits",
      (a) => putLe32(a, 12, 0xffff_ffff),
      /e_value_size is 4294967295/,
    ],
    ["a value inode without the feature", (a) => putLe32(a, 8, 20), /without the feature/],
  ];
  for (const [what, damage, message] of damages) {
    it(`are refused with ${what}`, async () => {
      const test = makeTestCore(superblockWith());
      const xattrs = area(AREA_OF_TWO);
      damage(xattrs);
      const inode = inodeWith(test.core.sb, { ...FILE, xattrs });
      await expect(shown(test, inode)).rejects.toThrow(message);
      await expect(shown(test, inode)).rejects.toThrow(/EUCLEAN.*inode 12/);
    });
  }

  it("are refused when their list fills the area to its last byte", async () => {
    const test = makeTestCore(superblockWith());
    const xattrs = inodeXattrs(256, [{ index: 1, name: "x".repeat(76) }]);
    const inode = inodeWith(test.core.sb, { ...FILE, xattrs });
    await expect(shown(test, inode)).rejects.toThrow("too large");
  });
});

describe("attributes in a block", () => {
  it("that the kernel wrote are read, and verified by their checksum", () => {
    const block = bytesOfDump(BLOCK_K, 4096).fill(0x42, 0xed4);
    const check = { ino: 12, hasChecksum: true, seed: SEED_OF_B };
    verifyXattrBlock(block, 2115, check);
    expect(() => verifyXattrBlock(block, 2116, check)).toThrow(/EBADMSG.*xattr block 2116/);
    block[0xfff]! ^= 1;
    expect(() => verifyXattrBlock(block, 2115, check)).toThrow("EBADMSG");
    verifyXattrBlock(block, 2115, { ...check, hasChecksum: false });
  });

  it("are refused without magic number, with two blocks, or without users", () => {
    for (const at of [0, 4, 8]) {
      const block = bytesOfDump(BLOCK_K, 4096);
      putLe32(block, at, at === 8 ? 2 : 0);
      const check = { ino: 12, hasChecksum: false, seed: 0 };
      expect(() => verifyXattrBlock(block, 2115, check)).toThrow(/EUCLEAN.*h_magic/);
    }
  });

  it("come after those of the inode, which count where both have a name", async () => {
    const test = makeTestCore(superblockWith());
    putXattrBlock(test.block(600), 600, test.core.seed, [
      { index: 1, name: "a", value: ascii("of the block") },
      { index: 1, name: "z", value: new Uint8Array(700).fill(7) },
    ]);
    const inode = inodeWith(test.core.sb, {
      ...FILE,
      fileAclBlock: 600,
      xattrs: area(AREA_OF_TWO),
    });
    expect(await shown(test, inode)).toEqual({
      "user.a": hexOf(ascii("1")),
      "user.name": hexOf(ascii("value")),
      "user.z": "07".repeat(700),
    });
  });

  it("are copies: a caller may write to them", async () => {
    const test = makeTestCore(superblockWith());
    putXattrBlock(test.block(600), 600, test.core.seed, [
      { index: 1, name: "z", value: ascii("zzz") },
    ]);
    const inode = inodeWith(test.core.sb, { ...FILE, fileAclBlock: 600 });
    const first = await test.core.metadata.run(() => readXattrs(test.core, inode));
    first.get("user.z")!.fill(0);
    expect(await shown(test, inode)).toEqual({ "user.z": hexOf(ascii("zzz")) });
  });

  it("are refused in a block outside the volume", async () => {
    const test = makeTestCore(superblockWith());
    for (const fileAclBlock of [1, 16_384, 0xffff_ffff]) {
      const inode = inodeWith(test.core.sb, { ...FILE, fileAclBlock });
      await expect(shown(test, inode)).rejects.toThrow(/EUCLEAN.*inode 12: i_file_acl is block/);
    }
  });

  it("leave an access control list without entries out, and refuse a damaged one", async () => {
    const test = makeTestCore(superblockWith());
    const list = (value: Uint8Array): ExtInode =>
      inodeWith(test.core.sb, {
        ...FILE,
        xattrs: inodeXattrs(256, [{ index: 2, name: "", value }]),
      });
    expect(await shown(test, list(Uint8Array.of(1, 0, 0, 0)))).toEqual({});
    await expect(shown(test, list(Uint8Array.of(9, 0, 0, 0)))).rejects.toThrow(
      "inode 12: system.posix_acl_access: a_version is 9",
    );
  });
});

describe("the hash of an attribute", () => {
  it("is that of the kernel, for each name and value", () => {
    for (const [name, value, hash] of [
      ["a", "1", 0x00610031],
      ["name", "value", 0x6140fccc],
      ["t", "tt", 0x00747474],
      ["empty", "", 0x06674ef9],
      ["q", "12345", 0x32313477],
      ["big", "B".repeat(300), 0xc7054243],
      ["shared", "S".repeat(200), 0xe0b144c4],
    ] as const) {
      expect(xattrEntryHashes(ascii(name), ascii(value)), name).toEqual([hash, hash]);
    }
  });

  it("has two forms for names that are not ASCII", () => {
    const value = ascii("E".repeat(200));
    expect(xattrEntryHashes(Uint8Array.of(0xc3, 0xa9), value)).toEqual([0x18c9, 0x7d6]);
  });

  it("takes the checksum of a value in an inode of its own for the value", () => {
    expect(xattrEntryHashes(ascii("huge"), 0x3c169196)[0]).toBe(0xe49391a3);
  });
});

describe("inline data", () => {
  function inline(size: number, dump = AREA_OF_INLINE): ReturnType<typeof withXattrs> {
    const test = makeTestCore(superblockWith([SB.s_feature_incompat, 0x82c2]));
    const iBlock = new Uint8Array(60).fill(0x62);
    const fields = { ...FILE, flags: INLINE_DATA_FL, size, iBlock, xattrs: area(dump) };
    return { test, inode: inodeWith(test.core.sb, fields) };
  }

  it("of 61 bytes is 60 in i_block and one in the attribute", () => {
    for (const size of [0, 1, 59, 60, 61]) {
      const { test, inode } = inline(size);
      expect(inlineDataOf(test.core, inode)).toEqual(new Uint8Array(size).fill(0x62));
    }
  });

  it("is what there is of a longer file, whose rest is a hole", () => {
    const { test, inode } = inline(1000);
    expect(inlineDataOf(test.core, inode)).toEqual(new Uint8Array(61).fill(0x62));
  });

  it("is refused without its attribute", () => {
    const { test, inode } = inline(10, AREA_OF_TWO);
    expect(() => inlineDataOf(test.core, inode)).toThrow(/EUCLEAN.*no attribute system.data/);
  });
});
