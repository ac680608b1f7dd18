import { describe, expect, test } from "vitest";
import { aclFromUser, aclToText } from "../../fs/ext/acl.ts";
import { FsError } from "../../lib/errno.ts";
import { Random } from "../../lib/random.ts";
import { aclOfText } from "./tar-attributes.ts";
import { decodePax, encodePax, tarNumber } from "./tar-header.ts";
import { TarSink } from "./tar-sink.ts";
import { tarEntries } from "./tar-source.ts";
import type { TreeEntry } from "./tree-entry.ts";

const SEED = 41;
const encoder = new TextEncoder();

function entry(path: Uint8Array | string, more: Partial<TreeEntry> = {}): TreeEntry {
  return {
    path: typeof path === "string" ? encoder.encode(path) : path,
    type: "file",
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtime: { sec: 1_700_000_000, nsec: 0 },
    atime: undefined,
    rdevMajor: 0,
    rdevMinor: 0,
    target: undefined,
    linkTo: undefined,
    xattrs: new Map(),
    sizeBytes: 0,
    content: undefined,
    ...more,
  };
}

function file(
  path: string,
  bytes: Uint8Array,
  offsetBytes = 0,
  sizeBytes = bytes.length,
): TreeEntry {
  const ranges = [{ offsetBytes, lengthBytes: bytes.length }];
  async function* content(): AsyncGenerator<{ offsetBytes: number; bytes: Uint8Array }> {
    yield { offsetBytes, bytes };
  }
  return entry(path, { sizeBytes, ranges, content });
}

async function tarOf(entries: readonly TreeEntry[]): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  const sink = new TarSink(async (bytes) => {
    parts.push(bytes.slice());
  });
  for (const one of entries) await sink.add(one);
  await sink.finish();
  return Buffer.concat(parts);
}

async function* stream(bytes: Uint8Array, pieceBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

/** Entries with their data, as text that can be compared. */
async function readAll(bytes: Uint8Array, pieceBytes = 700): Promise<unknown[]> {
  const all: unknown[] = [];
  for await (const { content, ranges, dataBytes, ...rest } of tarEntries(
    stream(bytes, pieceBytes),
  )) {
    const data: [number, string][] = [];
    for await (const stretch of content?.() ?? []) {
      const text = Buffer.from(stretch.bytes).toString("latin1");
      const last = data.at(-1);
      if (last !== undefined && last[0] + last[1].length === stretch.offsetBytes) last[1] += text;
      else data.push([stretch.offsetBytes, text]);
    }
    all.push({ ...rest, path: Buffer.from(rest.path).toString("latin1"), data });
  }
  return all;
}

const SAMPLES: readonly TreeEntry[] = [
  entry("dir", { type: "directory", mode: 0o1777, uid: 3_000_000_000, gid: 70_000 }),
  file("dir/plain", encoder.encode("content")),
  file("dir/sparse", encoder.encode("tail"), 2 ** 34, 2 ** 34 + 4),
  file("dir/hole at the end", encoder.encode("head"), 0, 10_000_000),
  entry(`${"long/".repeat(60)}name`, { mtime: { sec: -2, nsec: 500_000_000 } }),
  entry(Uint8Array.of(0x61, 0xff, 0x0a), { mtime: { sec: 1, nsec: 1 } }),
  entry("link", { type: "symlink", target: encoder.encode("x".repeat(300)) }),
  entry("hard", { linkTo: encoder.encode("dir/plain") }),
  entry("device", { type: "block", rdevMajor: 259, rdevMinor: 70_000 }),
  entry("attributes", {
    xattrs: new Map([
      ["user.x", Uint8Array.of(0, 10, 255, 61)],
      ["user.a=b%3D\n", Uint8Array.of(61)],
    ]),
  }),
];

describe("tar streams", () => {
  test("what is written is read back, in pieces of any size", async () => {
    const bytes = await tarOf(SAMPLES);
    const [first, second] = [await readAll(bytes, 1), await readAll(bytes, 100_000)];
    const told = first as (TreeEntry & { data: [number, string][] })[];
    expect(second).toEqual(first);
    expect(told.map(({ path }) => path)).toEqual(
      SAMPLES.map(({ path }) => Buffer.from(path).toString("latin1")),
    );
    for (const [index, sample] of SAMPLES.entries()) {
      const { mode, uid, gid, mtime, rdevMajor, rdevMinor, target, linkTo, xattrs } = sample;
      const own = { mode, uid, gid, mtime, rdevMajor, rdevMinor, target, linkTo, xattrs };
      expect(told[index]).toMatchObject({ ...own, sizeBytes: sample.sizeBytes });
    }
    expect(told[2]!.data).toEqual([[2 ** 34, "tail"]]);
    expect(told[3]!.data).toEqual([[0, "head"]]);
    expect(bytes.length).toBeLessThan(40_960);
  });

  test("what nobody asked for is passed over", async () => {
    const bytes = await tarOf(SAMPLES);
    const paths: string[] = [];
    for await (const { path } of tarEntries(stream(bytes, 512)))
      paths.push(Buffer.from(path).toString());
    expect(paths.length).toBe(SAMPLES.length);
  });

  test("a damaged stream ends with an error in words, or is read, but never breaks", async () => {
    const bytes = await tarOf(SAMPLES);
    const random = new Random(SEED);
    for (let round = 0; round < 400; round++) {
      const copy = Buffer.from(bytes);
      for (let flips = 1 + random.below(4); flips > 0; flips--) {
        copy[random.below(copy.length)] = random.below(256);
      }
      const cut = random.chance(0.3) ? copy.subarray(0, random.below(copy.length)) : copy;
      const outcome = await readAll(cut).catch((thrown: unknown) => thrown);
      const isSound = Array.isArray(outcome) || outcome instanceof FsError;
      expect({ seed: SEED, round, isSound, outcome: isSound ? null : outcome }).toMatchObject({
        isSound: true,
      });
    }
  });

  test.each([
    ["user::rw-,user:7:r--,group::r--,mask::r--,other::---", undefined],
    ["user::rw-\nuser:7:r--\t#effective:r--\ngroup::r--\nmask::r--\nother::---\n", undefined],
    ["default:u::rw-,o::---,m:r--,u:daemon:r--:7,g::r--", undefined],
    ["user::rw-,user:daemon:r--", 'names "daemon", whose number is not known'],
    ["nobody::rw-", "is no entry of an access control list"],
    ["user::rwz", "is no entry of an access control list"],
  ])("the access control list %j", (text, sentence) => {
    if (sentence !== undefined) expect(() => aclOfText(text)).toThrow(sentence);
    else {
      const shown = aclToText(aclFromUser(aclOfText(text)));
      expect(shown).toBe("user::rw-,user:7:r--,group::r--,mask::r--,other::---");
    }
  });

  test("lengths of records count their own digits", () => {
    for (let length = 0; length < 1200; length++) {
      const value = new Uint8Array(length).fill(0x0a);
      const records = new Map([["k", value]]);
      expect(decodePax(encodePax(records))).toEqual(records);
    }
  });

  test.each([
    [[0x30, 0x30, 0x37, 0x37, 0], 63],
    [[0x20, 0x31, 0x20, 0, 0], 1],
    [[0x80, 0, 0, 1, 0], 256],
    [[0xff, 0xff, 0xff, 0xff, 0xfe], -2],
    [[0, 0, 0, 0, 0], 0],
  ] as const)("the number %j is %i", (bytes, value) => {
    expect(tarNumber(Uint8Array.from(bytes))).toBe(value);
  });
});
