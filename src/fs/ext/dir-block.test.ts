import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  ascii,
  putDirBlock,
  putRecord,
  type Record,
  sealDirBlock,
  shapeWith,
} from "../../../test/support/ext-names.ts";
import { bytesOfDump } from "../../../test/support/ext-vectors.ts";
import { runs } from "../../../test/support/runs.ts";
import { putLe16, putLe32 } from "../../lib/bytes.ts";
import {
  type DirShape,
  DirWalk,
  isIndexBlock,
  recLenFromDisk,
  verifyDirBlock,
} from "./dir-block.ts";

/** Root directory of image B, 1 KiB. */
const ROOT_B = `
  000  02000000 0c000102 2e000000 02000000 0c000202 2e2e0000 0b000000 dc030a02
  020  6c6f7374 2b666f75 6e640000 00000000 00000000 00000000 00000000 00000000
  3e0  00000000 00000000 00000000 00000000 00000000 00000000 0c0000de eba6fe4a
`;
/** lost+found of image K, 4 KiB: its first block, and an empty one. */
const LOST_FOUND_K_0 = `
  000  0b000000 0c000102 2e000000 02000000 e80f0202 2e2e0000 00000000 00000000
  fe0  00000000 00000000 00000000 00000000 00000000 00000000 0c0000de b9fc304e
`;
const LOST_FOUND_K_1 = `
  000  00000000 f40f0000 00000000 00000000 00000000 00000000 00000000 00000000
  fe0  00000000 00000000 00000000 00000000 00000000 00000000 0c0000de 57da401c
`;
const VECTORS = [
  { dump: ROOT_B, bytes: 1024, seed: 0x70b04140, names: [".", "..", "lost+found"] },
  { dump: LOST_FOUND_K_0, bytes: 4096, seed: 0x7bb738bd, names: [".", ".."] },
  { dump: LOST_FOUND_K_1, bytes: 4096, seed: 0x7bb738bd, names: [] },
];

function namesOf(block: Uint8Array, shape: DirShape): string[] {
  const names: string[] = [];
  const walk = new DirWalk(block, shape, "block 7");
  while (walk.next()) names.push(new TextDecoder().decode(walk.name));
  return names;
}

describe("verifyDirBlock", () => {
  it("accepts blocks that mke2fs wrote, and finds their names", () => {
    for (const { dump, bytes, seed, names } of VECTORS) {
      const block = bytesOfDump(dump, bytes);
      const shape = shapeWith(bytes, { hasChecksum: true, checksumSeed: seed });
      verifyDirBlock(block, 7, shape);
      expect(namesOf(block, shape)).toEqual(names);
    }
  });

  it("refuses a block with any bit turned, naming it", () => {
    const shape = shapeWith(1024, { hasChecksum: true, checksumSeed: 0x70b04140 });
    for (let bit = 0; bit < 8 * 1024; bit += 61) {
      const block = bytesOfDump(ROOT_B, 1024);
      block[bit >>> 3]! ^= 1 << (bit & 7);
      expect(() => verifyDirBlock(block, 7, shape), `bit ${bit}`).toThrow(/EBADMSG.*block 7/);
    }
  });

  it("refuses a block of another directory, and one without checksum", () => {
    const block = bytesOfDump(ROOT_B, 1024);
    const other = shapeWith(1024, { hasChecksum: true, checksumSeed: 1 });
    expect(() => verifyDirBlock(block, 7, other)).toThrow("det_checksum");
    putDirBlock(block, [[2, "."]]);
    expect(() => verifyDirBlock(block, 7, other)).toThrow("no checksum");
  });

  it("looks at nothing on a volume without checksums", () => {
    verifyDirBlock(new Uint8Array(1024).fill(0xff), 7, shapeWith(1024));
  });
});

describe("recLenFromDisk", () => {
  it("takes lengths below 64 KiB as they are", () => {
    expect(recLenFromDisk(0, 1024)).toBe(0);
    expect(recLenFromDisk(0xffff, 4096)).toBe(0xffff);
    expect(recLenFromDisk(12, 32768)).toBe(12);
  });

  it("decodes what does not fit into 16 bits in blocks of 64 KiB", () => {
    expect(recLenFromDisk(0xffff, 65536)).toBe(65536);
    expect(recLenFromDisk(0, 65536)).toBe(65536);
    expect(recLenFromDisk(0xffe8, 65536)).toBe(65512);
    expect(recLenFromDisk(0x0001, 0x4_0000)).toBe(0x1_0000);
  });
});

describe("isIndexBlock", () => {
  const empty = new Uint8Array(1024);
  putLe16(empty, 4, 1024);

  it("is true in an indexed directory for block 0 and a free record as long as a block", () => {
    const indexed = shapeWith(1024, { isIndexed: true });
    expect(isIndexBlock(new Uint8Array(1024), 0, indexed)).toBe(true);
    expect(isIndexBlock(empty, 3, indexed)).toBe(true);
    expect(isIndexBlock(empty, 3, shapeWith(1024))).toBe(false);
    expect(isIndexBlock(new Uint8Array(1024), 3, indexed)).toBe(false);
  });
});

describe("DirWalk", () => {
  it("gives number, name and type of each used record", () => {
    const block = new Uint8Array(1024);
    const types = ["file", "directory", "character", "block", "fifo", "socket", "symlink"];
    const records: Record[] = types.map((_, at) => [20 + at, `n${at}`, at + 1]);
    putDirBlock(block, [...records, [30, "odd", 99], [0, "gone", 1], [31, "none", 0]]);
    const walk = new DirWalk(block, shapeWith(1024), "block 7");
    const found: unknown[] = [];
    while (walk.next()) found.push([walk.ino, walk.type]);
    const expected = types.map((type, at) => [20 + at, type]);
    expect(found).toEqual([...expected, [30, "unknown"], [31, "unknown"]]);
  });

  it("tells no types on a volume that does not store them", () => {
    const block = new Uint8Array(1024);
    putDirBlock(block, [[20, "a", 2]]);
    const walk = new DirWalk(block, shapeWith(1024, { hasFileType: false }), "block 7");
    expect(walk.next()).toBe(true);
    expect(walk.type).toBe("unknown");
  });

  it("takes a name of 255 bytes, and one that ends where the block does", () => {
    const block = new Uint8Array(1024);
    putDirBlock(block, [
      [20, "x".repeat(255)],
      [21, "y".repeat(255)],
      [22, "z".repeat(255)],
      [23, "w".repeat(1024 - 3 * 264 - 8)],
    ]);
    expect(namesOf(block, shapeWith(1024)).map((name) => name.length)).toEqual([
      255, 255, 255, 224,
    ]);
  });

  it("walks blocks of 64 KiB with coded lengths", () => {
    const block = new Uint8Array(65536);
    putLe16(block, 4, 0xffff);
    expect(namesOf(block, shapeWith(65536))).toEqual([]);
    putRecord(block, 0, 0xffff, [20, "all"]);
    expect(namesOf(block, shapeWith(65536))).toEqual(["all"]);
  });

  it("demands 8 bytes of hash behind names that are encrypted and ignore case", () => {
    const shape = shapeWith(1024, { hasStoredHash: true, isEncrypted: true });
    const block = new Uint8Array(1024);
    putRecord(block, 0, 12, [12, "."]);
    putRecord(block, 12, 12, [2, ".."]);
    putRecord(block, 24, 1000, [20, "sixteen bytes of"]);
    putLe32(block, 24 + 8 + 16, 0x1234_5678);
    putLe32(block, 24 + 8 + 20, 0x9abc_def0);
    const walk = new DirWalk(block, shape, "block 7");
    expect([walk.next(), walk.next(), walk.next()]).toEqual([true, true, true]);
    expect(walk.storedHash).toEqual({ major: 0x1234_5678, minor: 0x9abc_def0 });
    putRecord(block, 24, 24, [20, "sixteen bytes of"]);
    expect(() => namesOf(block, shape)).toThrow("rec_len is 24");
  });

  const bad: readonly (readonly [string, (block: Uint8Array) => unknown, RegExp])[] = [
    ["of length 0", (block) => putLe16(block, 4, 0), /rec_len is 0/],
    ["shorter than any record", (block) => putLe16(block, 4, 8), /rec_len is 8/],
    ["whose length is no multiple of 4", (block) => putLe16(block, 4, 18), /rec_len is 18/],
    ["too short for its name", (block) => block.fill(9, 6, 7), /rec_len is 16/],
    ["past the end", (block) => putLe16(block, 20, 1012), /entry at 16: rec_len is 1012, past/],
    ["that leaves 8 bytes over", (block) => putLe16(block, 20, 1000), /8 bytes are left over/],
    ["with an inode above the last", (block) => putLe32(block, 0, 1001), /inode is 1001/],
  ];
  for (const [what, damage, message] of bad) {
    it(`refuses a record ${what}, naming directory, block and offset`, () => {
      const block = new Uint8Array(1024);
      putDirBlock(block, [
        [20, "abcdefgh"],
        [21, "b"],
      ]);
      damage(block);
      expect(() => namesOf(block, shapeWith(1024))).toThrow(message);
      expect(() => namesOf(block, shapeWith(1024))).toThrow(/EUCLEAN.*directory 12: block 7/);
    });
  }

  it("refuses names that are empty or have a NUL or a slash", () => {
    for (const name of [new Uint8Array(0), ascii("a\0b"), ascii("../x"), ascii("/")]) {
      const block = new Uint8Array(1024);
      putDirBlock(block, [[20, name]]);
      const walk = new DirWalk(block, shapeWith(1024), "block 7");
      walk.next();
      expect(() => walk.checkName()).toThrow("EUCLEAN");
    }
  });

  it("lets any byte be in a ciphertext", () => {
    const block = new Uint8Array(1024);
    putDirBlock(block, [[20, ascii("\0/\0/")]]);
    const walk = new DirWalk(block, shapeWith(1024, { isEncrypted: true }), "block 7");
    walk.next();
    walk.checkName();
  });

  it("hides the record that holds the checksum", () => {
    const block = new Uint8Array(1024);
    putDirBlock(block, [[20, "a"]], 5);
    sealDirBlock(block, 5);
    expect(namesOf(block, shapeWith(1024))).toEqual(["a"]);
  });

  it("ends on any bytes, inside the block or with EUCLEAN", () => {
    const record = fc.record({
      ino: fc.constantFrom(0, 1, 20, 1000, 1001),
      recLen: fc.oneof(fc.integer({ min: 0, max: 300 }), fc.constantFrom(12, 16, 24, 1024)),
      nameBytes: fc.integer({ min: 0, max: 255 }),
    });
    fc.assert(
      fc.property(
        fc.array(record, { maxLength: 90, size: "max" }),
        fc.boolean(),
        (records, isHashed) => {
          const block = new Uint8Array(1024);
          let at = 0;
          for (const { ino, recLen, nameBytes } of records) {
            if (at + 12 > block.length) break;
            putLe32(block, at, ino);
            putLe16(block, at + 4, recLen);
            block[at + 6] = nameBytes;
            at += Math.max(4, recLen);
          }
          const shape = shapeWith(1024, { hasStoredHash: isHashed, isEncrypted: isHashed });
          const walk = new DirWalk(block, shape, "block 7");
          try {
            let steps = 0;
            while (walk.next()) {
              expect(walk.nameAt + walk.nameBytes).toBeLessThanOrEqual(block.length);
              expect(++steps).toBeLessThanOrEqual(1024 / 12);
              if (isHashed && !walk.isDot) expect(walk.storedHash.minor).toBeGreaterThanOrEqual(0);
            }
          } catch (thrown) {
            expect(thrown).toMatchObject({ code: "EUCLEAN" });
          }
        },
      ),
      { numRuns: runs(300) },
    );
  });
});
