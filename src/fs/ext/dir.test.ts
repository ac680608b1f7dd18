import { describe, expect, it } from "vitest";
import { makeTestCore, superblockWith, type TestCore } from "../../../test/support/ext-core.ts";
import {
  ascii,
  inodeWith,
  inodeXattrs,
  putDirBlock,
  putDxRoot,
  putLe32At,
  putRecord,
  type Record,
  sealDirBlock,
} from "../../../test/support/ext-names.ts";
import { bytesOfDump } from "../../../test/support/ext-vectors.ts";
import { putLe32 } from "../../lib/bytes.ts";
import { decodeNoKeyName, encodeNoKeyName } from "./crypt-name.ts";
import { dirLookup, dirRead } from "./dir.ts";
import { hashName } from "./dir-hash.ts";
import type { ExtInode } from "./inode.ts";
import {
  CASEFOLD_FL,
  ENCRYPT_FL,
  EXTENTS_FL,
  INDEX_FL,
  INLINE_DATA_FL,
  S_IFDIR,
  S_IFREG,
  SB,
} from "./layout.ts";
import type { Superblock } from "./superblock.ts";

const HALF_MD4 = 1;
/** Incompatible features of image B, with encryption and folding. */
const INCOMPAT_ENCRYPT_FOLD = 0x3_02c2;

function lookup(test: TestCore, dir: ExtInode, name: string | Uint8Array): Promise<number> {
  const bytes = typeof name === "string" ? ascii(name) : name;
  return (async () => test.core.metadata.run(() => dirLookup(test.core, dir, bytes)))();
}

async function list(test: TestCore, dir: ExtInode): Promise<string[]> {
  const names: string[] = [];
  for (let cookie = 0; cookie !== -1; ) {
    const at = cookie;
    const batch = await test.core.metadata.run(() => dirRead(test.core, dir, at));
    names.push(...batch.entries.map(({ name, ino }) => `${new TextDecoder().decode(name)} ${ino}`));
    expect(batch.nextCookie === -1 || batch.nextCookie > cookie).toBe(true);
    cookie = batch.nextCookie;
  }
  return names;
}

/** A directory of blocks 500, 501, .. with these records, 0 for a hole instead of a block. */
function directory(
  blocks: readonly (readonly Record[] | 0)[],
  options: { readonly sb?: Superblock; readonly flags?: number } = {},
): { readonly test: TestCore; readonly dir: ExtInode } {
  const sb = options.sb ?? superblockWith();
  const test = makeTestCore(sb);
  const dir = inodeWith(sb, {
    mode: S_IFDIR | 0o755,
    size: blocks.length * sb.blockBytes,
    flags: options.flags ?? 0,
    iBlock: blocks.map((records, at) => (records === 0 ? 0 : 500 + at)),
  });
  const seed = sb.hasMetadataCsum ? dir.checksumSeed : undefined;
  for (const [at, records] of blocks.entries()) {
    if (records !== 0) putDirBlock(test.block(500 + at), records, seed);
  }
  return { test, dir };
}

const DOTS: readonly Record[] = [
  [12, ".", 2],
  [2, "..", 2],
];

describe("a linear directory", () => {
  it("lists and finds the names of all blocks", async () => {
    const { test, dir } = directory([[...DOTS, [20, "a"]], [[21, "b"]], [], [[22, "c"]]]);
    expect(await list(test, dir)).toEqual([". 12", ".. 2", "a 20", "b 21", "c 22"]);
    expect(await lookup(test, dir, "c")).toBe(22);
    expect(await lookup(test, dir, ".")).toBe(12);
    expect(await lookup(test, dir, "..")).toBe(2);
    expect(await lookup(test, dir, "d")).toBe(0);
    expect(await lookup(test, dir, "")).toBe(0);
    expect(await lookup(test, dir, "...")).toBe(0);
  });

  it("goes on at any cookie, and ends behind the last block", async () => {
    const { test, dir } = directory([DOTS, [[21, "b"]]]);
    const batch = await test.core.metadata.run(() => dirRead(test.core, dir, 1));
    expect(batch).toMatchObject({ entries: [{ ino: 21, type: "file" }], nextCookie: -1 });
    for (const cookie of [2, 1e9, -1, Number.NaN]) {
      expect(dirRead(test.core, dir, cookie)).toEqual({ entries: [], nextCookie: -1 });
    }
  });

  it("is read in one request where its blocks lie in one piece", async () => {
    const { test, dir } = directory([DOTS, [[21, "b"]], [[22, "c"]], [[23, "d"]]]);
    expect(await lookup(test, dir, "d")).toBe(23);
    expect(test.store.reads).toBe(1);
    expect(await list(test, dir)).toHaveLength(5);
    expect(test.store.reads).toBe(1);
  });

  it("takes a hole for empty blocks, with a warning", async () => {
    const { test, dir } = directory([DOTS, 0, 0, [[22, "c"]]]);
    expect(await list(test, dir)).toEqual([". 12", ".. 2", "c 22"]);
    expect(await lookup(test, dir, "c")).toBe(22);
    expect(new Set(test.warnings)).toEqual(
      new Set(["directory 12: there is a hole at file block 1"]),
    );
  });

  it("may be empty, as a removed one is", async () => {
    const { test, dir } = directory([]);
    expect(await list(test, dir)).toEqual([]);
    expect(await lookup(test, dir, "..")).toBe(0);
    expect(await lookup(test, dir, "a")).toBe(0);
  });

  it("returns names that stay when the block goes", async () => {
    const { test, dir } = directory([[[20, "abc"]]]);
    const { entries } = await test.core.metadata.run(() => dirRead(test.core, dir, 0));
    const cached = test.core.metadata.block(500);
    expect(entries[0]!.name.buffer).not.toBe(cached.buffer);
  });

  it("refuses sizes that cannot be", async () => {
    const sb = superblockWith();
    const test = makeTestCore(sb);
    for (const [size, message] of [
      [1500, "no multiple of 1024"],
      [(sb.blockCount + 1) * 1024, "more than the file system"],
    ] as const) {
      const dir = inodeWith(sb, { mode: S_IFDIR, size });
      expect(() => dirRead(test.core, dir, 0)).toThrow(message);
      expect(() => dirLookup(test.core, dir, ascii("a"))).toThrow(/EUCLEAN.*directory 12/);
    }
  });

  it("refuses what is no directory, and names that are too long", async () => {
    const { test, dir } = directory([DOTS]);
    const file = inodeWith(test.core.sb, { mode: S_IFREG });
    expect(() => dirRead(test.core, file, 0)).toThrow("ENOTDIR");
    expect(() => dirLookup(test.core, file, ascii("a"))).toThrow("ENOTDIR");
    expect(() => dirLookup(test.core, dir, ascii("x".repeat(256)))).toThrow("ENAMETOOLONG");
  });

  it("refuses names that lead to itself or to a reserved inode", async () => {
    const { test, dir } = directory([
      [...DOTS, [12, "me"], [8, "journal"], [2, "root"], [11, "first"]],
    ]);
    await expect(lookup(test, dir, "me")).rejects.toThrow(/EUCLEAN.*directory itself/);
    await expect(lookup(test, dir, "journal")).rejects.toThrow(/EUCLEAN.*reserved inode 8/);
    expect(await lookup(test, dir, "root")).toBe(2);
    expect(await lookup(test, dir, "first")).toBe(11);
  });

  it("refuses damaged blocks", async () => {
    const { test, dir } = directory([[...DOTS, [20, "a/b"]]]);
    await expect(list(test, dir)).rejects.toThrow(/EUCLEAN.*byte 47/);
    const other = directory([DOTS, [[21, "b"]]]);
    other.test.block(501)[8]! ^= 1;
    await expect(list(other.test, other.dir)).rejects.toThrow(/EBADMSG.*block 501/);
    await expect(lookup(other.test, other.dir, "b")).rejects.toThrow("EBADMSG");
  });
});

it("a linear directory larger than memory is searched once through", async () => {
  const sb = superblockWith();
  const test = makeTestCore(sb);
  const [first, count] = [5000, 6000];
  const dir = inodeWith(sb, {
    mode: S_IFDIR | 0o755,
    size: count * sb.blockBytes,
    flags: EXTENTS_FL,
    iBlock: [0xf30a | (1 << 16), 4, 0, 0, count, first],
  });
  const seed = sb.hasMetadataCsum ? dir.checksumSeed : undefined;
  for (let at = 0; at < count; at++) {
    const records: Record[] = [[20, `name ${at}`]];
    putDirBlock(test.block(first + at), at === 0 ? [...DOTS, ...records] : records, seed);
  }
  expect(count * sb.blockBytes).toBeGreaterThan(test.cache.arena.frameCount * 4096);
  const search = { fileBlock: 0 };
  const find = (): number => dirLookup(test.core, dir, ascii("name 5999"), search);
  expect(await test.core.metadata.run(find)).toBe(20);
  expect(test.store.reads).toBeLessThan(20);
});

describe("an indexed directory", () => {
  /** Blocks: root, one leaf with `name`, one block that the index does not know. */
  function indexed(name: string): ReturnType<typeof directory> {
    const made = directory([[], [[21, name]], [[22, "stray"]]], { flags: INDEX_FL });
    const root = { version: HALF_MD4, levels: 0, entries: [[0, 1]] } as const;
    putDxRoot(made.test.block(500), { ino: 12, parent: 2 }, root, made.dir.checksumSeed);
    return made;
  }

  it("is searched through its index", async () => {
    const { test, dir } = indexed("a");
    expect(await lookup(test, dir, "a")).toBe(21);
    expect(await lookup(test, dir, "stray")).toBe(0);
    expect(await lookup(test, dir, "..")).toBe(2);
    expect(await list(test, dir)).toEqual([". 12", ".. 2", "a 21", "stray 22"]);
  });

  it("is searched block by block when the index is damaged, with a warning", async () => {
    const { test, dir } = indexed("a");
    const root = { version: 77, levels: 0, entries: [[0, 1]] } as const;
    putDxRoot(test.block(500), { ino: 12, parent: 2 }, root, dir.checksumSeed);
    expect(await lookup(test, dir, "a")).toBe(21);
    expect(await lookup(test, dir, "stray")).toBe(22);
    expect(test.warnings[0]).toContain("hash_version is 77");
  });

  it("is an ordinary one on a volume without the feature", async () => {
    const sb = superblockWith([SB.s_feature_compat, 0x1c], [SB.s_feature_ro_compat, 0x6b]);
    const { test, dir } = directory([DOTS, [[21, "a"]]], { sb, flags: INDEX_FL });
    expect(await lookup(test, dir, "a")).toBe(21);
    expect(test.warnings).toEqual([]);
  });
});

describe("an inline directory", () => {
  /** i_block of inode 17, whose parent is 2. */
  const I_BLOCK = `
    028  02000000 12000000 0c000301 6f6e6500 13000000 2c000301 74776f00 00000000
    048  00000000 00000000 00000000 00000000 00000000 00000000 00000000
  `;

  function inline(
    tail: Uint8Array,
    change: (iBlock: Uint8Array) => void = () => {},
  ): ReturnType<typeof directory> {
    const test = makeTestCore(superblockWith([SB.s_feature_incompat, 0x82c2]));
    const iBlock = bytesOfDump(I_BLOCK, 60, 0x28);
    change(iBlock);
    const dir = inodeWith(test.core.sb, {
      ino: 17,
      mode: S_IFDIR | 0o755,
      flags: INLINE_DATA_FL,
      size: 60 + tail.length,
      iBlock,
      xattrs: inodeXattrs(256, [{ index: 7, name: "data", value: tail }]),
    });
    return { test, dir };
  }

  it("that the kernel wrote lists and finds its names, with dots made up", async () => {
    const { test, dir } = inline(new Uint8Array(0));
    expect(await list(test, dir)).toEqual([". 17", ".. 2", "one 18", "two 19"]);
    expect(await lookup(test, dir, "two")).toBe(19);
    expect(await lookup(test, dir, ".")).toBe(17);
    expect(await lookup(test, dir, "..")).toBe(2);
    expect(await lookup(test, dir, "three")).toBe(0);
    expect(dirRead(test.core, dir, 1)).toEqual({ entries: [], nextCookie: -1 });
  });

  it("goes on in its attribute, which is tiled on its own", async () => {
    const tail = new Uint8Array(68);
    putRecord(tail, 0, 16, [20, "three"]);
    putRecord(tail, 16, 52, [21, "four"]);
    const { test, dir } = inline(tail);
    expect(await list(test, dir)).toEqual([
      ...[". 17", ".. 2", "one 18", "two 19", "three 20", "four 21"],
    ]);
    expect(await lookup(test, dir, "four")).toBe(21);
    putRecord(tail, 16, 56, [21, "four"]);
    const broken = inline(tail);
    await expect(list(broken.test, broken.dir)).rejects.toThrow(/inline data, entry at 16/);
  });

  it("refuses a parent that is no inode", async () => {
    for (const parent of [0, 4097]) {
      const { test, dir } = inline(new Uint8Array(0), (iBlock) => putLe32(iBlock, 0, parent));
      await expect(list(test, dir)).rejects.toThrow(`parent is inode ${parent}`);
      await expect(lookup(test, dir, "..")).rejects.toThrow("EUCLEAN");
    }
  });

  it("refuses to be one without its attribute", async () => {
    const { test } = inline(new Uint8Array(0));
    const dir = inodeWith(test.core.sb, { mode: S_IFDIR, flags: INLINE_DATA_FL, size: 60 });
    await expect(lookup(test, dir, "a")).rejects.toThrow("no attribute system.data");
  });
});

describe("a directory that ignores case", () => {
  const sb = superblockWith(
    [SB.s_feature_incompat, 0x2_02c2],
    [SB.s_encoding, 1], // and flags 0 behind it
  );

  it("finds any spelling, and names that are not UTF-8 by their bytes", async () => {
    const raw = Uint8Array.of(0xff, 0x41);
    const records: Record[] = [...DOTS, [20, new TextEncoder().encode("Straße")], [21, raw]];
    const { test, dir } = directory([records], { sb, flags: CASEFOLD_FL });
    expect(await lookup(test, dir, "STRASSE")).toBe(20);
    expect(await lookup(test, dir, "Straße")).toBe(20);
    expect(await lookup(test, dir, "Strase")).toBe(0);
    expect(await lookup(test, dir, raw)).toBe(21);
    expect(await lookup(test, dir, Uint8Array.of(0xff, 0x61))).toBe(0);
  });

  it("refuses an encoding that it does not know", async () => {
    const other = superblockWith([SB.s_feature_incompat, 0x2_02c2], [SB.s_encoding, 2]);
    const { test, dir } = directory([DOTS], { sb: other, flags: CASEFOLD_FL });
    await expect(lookup(test, dir, "a")).rejects.toMatchObject({ code: "EOPNOTSUPP" });
  });
});

describe("an encrypted directory", () => {
  const sb = superblockWith([SB.s_feature_incompat, INCOMPAT_ENCRYPT_FOLD], [SB.s_encoding, 1]);
  const short = Uint8Array.from({ length: 16 }, (_, at) => at * 16 + 1);
  const long = Uint8Array.from({ length: 255 }, (_, at) => (at * 31) & 0xff);

  it("shows names by hash and ciphertext, and finds them by what it shows", async () => {
    const records: Record[] = [...DOTS, [20, short], [21, long]];
    const { test, dir } = directory([records], { sb, flags: ENCRYPT_FL });
    const { entries } = await test.core.metadata.run(() => dirRead(test.core, dir, 0));
    expect(entries.map(({ name }) => name.length)).toEqual([1, 2, 32, 252]);
    const expected = hashName(HALF_MD4, short, sb.hashSeed);
    expect(decodeNoKeyName(entries[2]!.name)?.hash).toEqual(expected);
    for (const { name, ino } of entries) expect(await lookup(test, dir, name)).toBe(ino);
    expect(await lookup(test, dir, "absent")).toBe(0);
    expect(await lookup(test, dir, short)).toBe(0);
  });

  it("has no hash in its names when it has several blocks and no index", async () => {
    const { test, dir } = directory([DOTS, [[20, short]]], { sb, flags: ENCRYPT_FL });
    const { entries } = await test.core.metadata.run(() => dirRead(test.core, dir, 1));
    expect(entries[0]!.name).toEqual(encodeNoKeyName({ major: 0, minor: 0 }, short));
  });

  it("takes the stored hash where it ignores case too, and searches block by block", async () => {
    const { test, dir } = directory([DOTS, DOTS, []], {
      sb,
      flags: ENCRYPT_FL | CASEFOLD_FL | INDEX_FL,
    });
    const seed = dir.checksumSeed;
    const root = { version: 6, levels: 0, entries: [[0, 1]] } as const;
    putDxRoot(test.block(500), { ino: 12, parent: 2 }, root, seed);
    test.block(502).fill(0);
    putRecord(test.block(502), 0, 1024 - 12, [20, short]);
    putLe32At(test.block(502), 8 + 16, [0x1234_5678, 0x9abc_def0]);
    sealDirBlock(test.block(502), seed);
    const { entries } = await test.core.metadata.run(() => dirRead(test.core, dir, 2));
    const hash = { major: 0x1234_5678, minor: 0x9abc_def0 };
    expect(entries[0]!.name).toEqual(encodeNoKeyName(hash, short));
    expect(await lookup(test, dir, entries[0]!.name)).toBe(20);
    expect(test.warnings).toEqual([]);
  });

  it("refuses ciphertext that is too short to be one", async () => {
    const { test, dir } = directory([[...DOTS, [20, "fifteen bytes.."]]], {
      sb,
      flags: ENCRYPT_FL,
    });
    await expect(list(test, dir)).rejects.toThrow(/EUCLEAN.*has 15 bytes/);
  });
});
