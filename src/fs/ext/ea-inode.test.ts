import { describe, expect, it } from "vitest";
import { makeTestCore, superblockWith, type TestCore } from "../../../test/support/ext-core.ts";
import {
  ascii,
  type InodeFields,
  inodeWith,
  inodeXattrs,
} from "../../../test/support/ext-names.ts";
import { eaValueHash } from "./checksum.ts";
import type { EaProgress } from "./ea-inode.ts";
import { xattrEntryHashes } from "./ea-inode.ts";
import type { ExtInode } from "./inode.ts";
import { EA_INODE_FL, S_IFDIR, S_IFREG, SB } from "./layout.ts";
import { readXattrs } from "./xattr.ts";

/** Bytes 00..ff, 32 times: the value whose hashes image K holds. */
const VALUE = Uint8Array.from({ length: 8192 }, (_, at) => at & 0xff);
const VALUE_HASH = 0x3c16_9196;
const ENTRY_HASH = 0xe493_91a3;
const VALUE_INO = 100;
const OWNER_GENERATION = 77;

/** A file with the attribute "user.huge" in inode 100, with these changes. */
function hugeAttribute(
  change: {
    readonly value?: Partial<InodeFields>;
    readonly entry?: { readonly ino?: number; readonly size?: number; readonly hash?: number };
  } = {},
): { readonly test: TestCore; readonly owner: ExtInode } {
  const test = makeTestCore(superblockWith([SB.s_feature_incompat, 0x6c2]));
  const { sb } = test.core;
  for (let at = 0; at < 8; at++) {
    test.block(600 + at).set(VALUE.subarray(at * 1024, (at + 1) * 1024));
  }
  test.core.inodes.add(
    inodeWith(sb, {
      ino: VALUE_INO,
      mode: S_IFREG | 0o600,
      flags: EA_INODE_FL,
      size: VALUE.length,
      atime: VALUE_HASH,
      iBlock: Array.from({ length: 8 }, (_, at) => 600 + at),
      ...change.value,
    }),
  );
  const inValue = { ino: VALUE_INO, size: VALUE.length, hash: ENTRY_HASH, ...change.entry };
  const xattrs = inodeXattrs(256, [{ index: 1, name: "huge", inValue }]);
  const owner = inodeWith(sb, { mode: S_IFREG, generation: OWNER_GENERATION, xattrs });
  return { test, owner };
}

async function read({ test, owner }: ReturnType<typeof hugeAttribute>): Promise<Uint8Array> {
  const xattrs = await test.core.metadata.run(() => readXattrs(test.core, owner));
  return xattrs.get("user.huge")!;
}

describe("a value in an inode of its own", () => {
  it("is read and verified by the hashes that the kernel wrote", async () => {
    const made = hugeAttribute();
    expect(eaValueHash(made.test.core.seed, VALUE)).toBe(VALUE_HASH);
    expect(await read(made)).toEqual(VALUE);
    expect(made.test.store.reads).toBe(1);
  });

  it("is accepted with the hash over signed bytes of older kernels", async () => {
    const [unsigned, signed] = xattrEntryHashes(ascii("huge"), VALUE_HASH);
    expect(unsigned).toBe(signed); // ASCII: both are one
    expect(await read(hugeAttribute({ entry: { hash: signed } }))).toEqual(VALUE);
  });

  it("is accepted without hashes in the form of Lustre, which names the owner", async () => {
    const value = { atime: 0, mtime: 12, generation: OWNER_GENERATION };
    expect(await read(hugeAttribute({ value, entry: { hash: 1 } }))).toEqual(VALUE);
    const stranger = { ...value, mtime: 13 };
    await expect(read(hugeAttribute({ value: stranger, entry: { hash: 1 } }))).rejects.toThrow(
      "EUCLEAN",
    );
  });

  const damages = [
    ["without the flag of values", { value: { flags: 0 } }, "no inode for values"],
    ["that is a directory", { value: { mode: S_IFDIR } }, "no inode for values"],
    ["of another size", { entry: { size: 8191 } }, "i_size is 8192, e_value_size 8191"],
    ["with a hole", { value: { iBlock: [600, 0, 602] } }, "file block 1 is missing"],
    ["with other content", { value: { iBlock: [601, 600, 602] } }, "EUCLEAN"],
    ["with another hash of its content", { value: { atime: 1 } }, "does not match i_atime"],
    ["with another hash of its entry", { entry: { hash: 1 } }, "e_hash is 1"],
    ["that is reserved", { entry: { ino: 8 } }, "e_value_inum is 8"],
    ["outside the volume", { entry: { ino: 4097 } }, "e_value_inum is 4097"],
  ] as const;
  for (const [what, change, message] of damages) {
    it(`is refused in an inode ${what}`, async () => {
      await expect(read(hugeAttribute(change))).rejects.toThrow(message);
      await expect(read(hugeAttribute(change))).rejects.toMatchObject({ code: "EUCLEAN" });
    });
  }

  it("costs as many looks at its map as it has pieces, however often the call is run again", async () => {
    const iBlock = Array.from({ length: 8 }, (_, at) => 600 + 2 * at);
    const { test, owner } = hugeAttribute({ value: { iBlock } });
    for (const [at, blocknr] of iBlock.entries()) {
      test.block(blocknr).set(VALUE.subarray(at * 1024, (at + 1) * 1024));
    }
    let looks = 0;
    const mapBlocks = test.core.mapBlocks.bind(test.core);
    test.core.mapBlocks = (...args) => {
      looks++;
      return mapBlocks(...args);
    };
    const progress: EaProgress = new Map();
    const xattrs = await test.core.metadata.run(() => readXattrs(test.core, owner, progress));
    expect(xattrs.get("user.huge")).toEqual(VALUE);
    // Each piece is looked up before it is there, and once more when it is.
    expect(looks).toBe(16);
  });

  it("is refused when many entries name one large value", async () => {
    const test = makeTestCore(superblockWith([SB.s_feature_incompat, 0x6c2]));
    const inValue = { ino: VALUE_INO, size: 1 << 24, hash: 0 };
    const xattrs = inodeXattrs(
      256,
      ["a", "b", "c"].map((name) => ({ index: 1, name, inValue })),
    );
    const owner = inodeWith(test.core.sb, { mode: S_IFREG, xattrs });
    expect(() => readXattrs(test.core, owner)).toThrow("E2BIG");
  });
});
