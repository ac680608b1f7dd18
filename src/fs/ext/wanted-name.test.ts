import { describe, expect, it } from "vitest";
import { makeTestCore, superblockWith } from "../../../test/support/ext-core.ts";
import { ascii, inodeWith } from "../../../test/support/ext-names.ts";
import { encodeNoKeyName } from "./crypt-name.ts";
import { hashName } from "./dir-hash.ts";
import { CASEFOLD_FL, ENCRYPT_FL, S_IFDIR, SB } from "./layout.ts";
import type { Superblock } from "./superblock.ts";
import { hashOnVolume, type WantedName, wantedName } from "./wanted-name.ts";

const HALF_MD4 = 1;

function wanted(name: Uint8Array, flags = 0, sb: Superblock = superblockWith()): WantedName {
  const { core } = makeTestCore(sb);
  const found = wantedName(core, inodeWith(sb, { mode: S_IFDIR, flags }), name);
  if (found === undefined) throw new Error("no entry can have the name");
  return found;
}

describe("the hash of a name", () => {
  it("takes bytes as signed or not, as the superblock says", () => {
    const name = Uint8Array.of(0xc3, 0xa9);
    for (const [flags, kind] of [
      [0, 0],
      [1, 0],
      [2, 3],
      [3, 3],
    ] as const) {
      const { core } = makeTestCore(superblockWith([SB.s_flags, flags]));
      for (const version of [0, 1, 2]) {
        const expected = hashName(version + kind, name, core.sb.hashSeed);
        expect(hashOnVolume(core, version, name)).toEqual(expected);
      }
    }
  });

  it("is that of the fold in a directory that ignores case, or of bytes without one", () => {
    const sb = superblockWith([SB.s_encoding, 1]);
    const { hashSeed } = sb;
    const spelled = wanted(ascii("ABC"), CASEFOLD_FL, sb);
    expect(spelled.hash(HALF_MD4)).toEqual(hashName(HALF_MD4, ascii("abc"), hashSeed));
    const raw = Uint8Array.of(0xff, 0x41);
    expect(wanted(raw, CASEFOLD_FL, sb).hash(HALF_MD4)).toEqual(hashName(HALF_MD4, raw, hashSeed));
    expect(wanted(ascii("ABC")).hash(HALF_MD4)).toEqual(hashName(HALF_MD4, ascii("ABC"), hashSeed));
  });

  it("is that of the ciphertext, or where its end is missing, the one in the name", () => {
    const { hashSeed } = superblockWith();
    const inName = { major: 0x1234_5678, minor: 9 };
    const short = new Uint8Array(149).fill(7);
    expect(wanted(encodeNoKeyName(inName, short), ENCRYPT_FL).hash(HALF_MD4)).toEqual(
      hashName(HALF_MD4, short, hashSeed),
    );
    const long = new Uint8Array(150).fill(7);
    expect(wanted(encodeNoKeyName(inName, long), ENCRYPT_FL).hash(HALF_MD4)).toEqual(inName);
  });
});

describe("wantedName", () => {
  it("knows that no entry can have some names", () => {
    const { core } = makeTestCore(superblockWith());
    const plain = inodeWith(core.sb, { mode: S_IFDIR });
    const encrypted = inodeWith(core.sb, { mode: S_IFDIR, flags: ENCRYPT_FL });
    expect(wantedName(core, plain, new Uint8Array(0))).toBeUndefined();
    expect(wantedName(core, encrypted, ascii("plain text"))).toBeUndefined();
    expect(wantedName(core, plain, ascii("x".repeat(255)))).toBeDefined();
    expect(() => wantedName(core, plain, ascii("x".repeat(256)))).toThrow("ENAMETOOLONG");
  });

  it("refuses a name that is not UTF-8 on a strict volume alone", () => {
    const raw = Uint8Array.of(0xff);
    const strict = superblockWith([SB.s_encoding, 0x1_0001]);
    expect(() => wanted(raw, CASEFOLD_FL, strict)).toThrow("EINVAL");
    expect(() => wanted(raw, CASEFOLD_FL, superblockWith([SB.s_encoding, 1]))).not.toThrow();
    expect(() => wanted(raw, 0, strict)).not.toThrow();
  });
});
