import { describe, expect, it } from "vitest";
import { hexOf } from "../../lib/bytes.ts";
import { hashName } from "./dir-hash.ts";

const LEGACY = 0;
const HALF_MD4 = 1;
const TEA = 2;
const UNSIGNED = 3;

function hex(digits: string): Uint8Array {
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** The seed of the vectors: bytes a0a1a2a3 b0b1c2c3 d0d1e0e1 e2e3e4e5 as little-endian words. */
const SEED = Uint32Array.of(0xa3a2a1a0, 0xc3c2b1b0, 0xe1e0d1d0, 0xe5e4e3e2);
const NO_SEED = new Uint32Array(4);

type Vector = readonly [
  name: string | Uint8Array,
  chars: "both" | "signed" | "unsigned",
  legacy: string,
  halfMd4: string,
  tea: string,
];

/** Values of the tool that made the images, for each name by three functions. */
const VECTORS: readonly Vector[] = [
  ["a", "both", "e74b53e2", "1aac8f44/4113d93a", "d15238ac/28f27567"],
  ["abc", "both", "75afd992", "28bbf390/fc460288", "215ca308/baf1e4d8"],
  [".", "both", "71d73e48", "5a2dbd2c/c5e8c44c", "378462dc/939a357d"],
  ["..", "both", "7c37aa9e", "2c7df348/28361ca1", "517eea76/32a29d16"],
  ["A", "both", "81840e22", "0fa50642/636e2647", "040a59bc/3be35538"],
  ["core", "both", "186881b0", "89782b74/cc7006f0", "7eae95e0/2d210edf"],
  ["lost+found", "both", "5e2aba24", "3ec4505c/7c898f64", "1c0a8004/62723216"],
  ["README.md", "both", "3f05638c", "2ee29020/9ef55faf", "a72969f0/1530d66e"],
  ["index.html", "both", "c5a07f6a", "0a79f750/9f695a94", "f674c200/d40a14c5"],
  ["file0001", "both", "1f483f0a", "858d1404/a2ee6816", "de4087ba/4c44e6af"],
  ["file0002", "both", "1ea3055c", "79323a6e/3c049a0d", "2ac09348/0630d09c"],
  ["0123456789abcdef", "both", "415c16fe", "02237e0e/9ad4e1ef", "25bb2a56/b077a8d0"],
  ["0123456789abcdefg", "both", "fa356a68", "2fcabbb4/f8ffb2af", "48505b26/c3fb4e66"],
  [
    "abcdefghijklmnopqrstuvwxyz012345",
    "both",
    "8be22c02",
    "dae50f90/563c2b5a",
    "31afe2b4/110e0a56",
  ],
  [
    "abcdefghijklmnopqrstuvwxyz0123456",
    "both",
    "cfbc04f6",
    "1aa36dbc/330105ee",
    "3e02c7fa/256ba227",
  ],
  ["x".repeat(255), "both", "30557da6", "5b83b7a2/2a03b5c6", "778be70c/5cdd0c15"],
  [hex("c3a9"), "signed", "11083c86", "63caad48/08910151", "3350929c/a079e90f"],
  [hex("c3a9"), "unsigned", "878ca486", "af29d23e/367d1f30", "e89a4fee/02800e23"],
  [hex("6e61c3af76652e747874"), "signed", "0bb32478", "7acd3f84/5c6ccecb", "28016910/f5cd0d5d"],
  [hex("6e61c3af76652e747874"), "unsigned", "337f3fd6", "c3fc532c/ce9cb26a", "a568d804/b221f80c"],
  [hex("4772c3bcc39f65"), "signed", "7bba20ce", "c3dc7466/5e95f122", "2d842846/08c48412"],
  [hex("4772c3bcc39f65"), "unsigned", "43c00d7c", "73633778/c290fa98", "86fce476/d974e740"],
  [hex("e697a5e69cace8aa9e"), "signed", "e2996e36", "1cda92e6/f46caef6", "215d0ad6/3381b344"],
  [hex("e697a5e69cace8aa9e"), "unsigned", "61b07d5a", "36e2dfbc/816a96d1", "a35c6da6/5439b3d3"],
  [hex("d184d0b0d0b9d0bb"), "signed", "52943f7c", "bf22718c/2b01e8db", "8b0c1442/a7e9c69a"],
  [hex("d184d0b0d0b9d0bb"), "unsigned", "4cdc4b90", "dca1ccd8/f9b20c47", "c56e7e50/404ab30e"],
  [hex("f09f9880"), "signed", "7d1d1528", "6040ff0c/eeb1f1aa", "f8cfad8c/47a491d6"],
  [hex("f09f9880"), "unsigned", "ba853b26", "9ed128c2/801a95fc", "a4f399ea/61d120a1"],
  [hex("fffe807f"), "signed", "d3103d28", "be2672b2/a1bcec08", "5f5c5702/ccf0c540"],
  [hex("fffe807f"), "unsigned", "25a88fe6", "7bc1e91c/126dfb11", "5332b5b6/211c285d"],
  [hex("80".repeat(33)), "signed", "6e135238", "1bc4a9f0/a781ae74", "8c1d39c4/6b49e1c8"],
  [hex("80".repeat(33)), "unsigned", "f8780706", "f674b110/95bef300", "62f2f50c/7df47b53"],
];

const NO_SEED_VECTORS: readonly Vector[] = [
  ["abc", "both", "75afd992", "d196a868/c420eb28", "b1435ec4/3f7eaa0e"],
  ["lost+found", "both", "5e2aba24", "591de422/6ffc56e0", "2dbf9e80/bfebee4f"],
  [hex("c3a9"), "signed", "11083c86", "89d4704e/75d52d82", "591e9bd6/f780721f"],
  [hex("c3a9"), "unsigned", "878ca486", "fda9f3f8/69788442", "6daf7c00/dc9b6b19"],
];

function bytesOf(name: string | Uint8Array): Uint8Array {
  return typeof name === "string" ? new TextEncoder().encode(name) : name;
}

function show(version: number, name: string | Uint8Array, seed: Uint32Array): string {
  const { major, minor } = hashName(version, bytesOf(name), seed);
  const text = (word: number) => word.toString(16).padStart(8, "0");
  return version % UNSIGNED === LEGACY ? text(major) : `${text(major)}/${text(minor)}`;
}

function label(name: string | Uint8Array): string {
  return typeof name === "string" ? name.slice(0, 40) : hexOf(name).slice(0, 40);
}

describe("hashName", () => {
  for (const [seed, vectors, words] of [
    [SEED, VECTORS, "a seed"],
    [NO_SEED, NO_SEED_VECTORS, "no seed"],
  ] as const) {
    for (const [name, chars, legacy, halfMd4, tea] of vectors) {
      it(`hashes ${label(name)} (${chars}) with ${words} as the tools do`, () => {
        const expected = [legacy, halfMd4, tea];
        for (const kind of [LEGACY, HALF_MD4, TEA]) {
          if (chars !== "unsigned") expect(show(kind, name, seed)).toBe(expected[kind]);
          if (chars !== "signed") expect(show(kind + UNSIGNED, name, seed)).toBe(expected[kind]);
        }
      });
    }
  }

  it("covers 144 values of the seeded table", () => {
    const perRow = VECTORS.map(([, chars]) => (chars === "both" ? 6 : 3));
    expect(perRow.reduce((sum, count) => sum + count, 0)).toBe(144);
  });

  it("keeps the lowest bit of the major hash clear", () => {
    for (let at = 0; at < 1000; at++) {
      for (let version = 0; version < 6; version++) {
        const { major } = hashName(version, bytesOf(`name ${at}`), SEED);
        expect(major & 1).toBe(0);
      }
    }
  });

  it("leaves the end mark of positions free", () => {
    // TEA of an empty name is the seed itself, so the seed decides the hash.
    const seed = Uint32Array.of(0xfffffffe, 1, 2, 3);
    expect(hashName(TEA, new Uint8Array(0), seed)).toEqual({ major: 0xfffffffc, minor: 1 });
  });

  it("refuses versions it has no key or no rule for", () => {
    expect(() => hashName(6, bytesOf("a"), SEED)).toThrow("hash version");
    expect(() => hashName(-1, bytesOf("a"), SEED)).toThrow("hash version");
  });
});
