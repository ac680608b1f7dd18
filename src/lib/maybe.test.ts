import { describe, expect, test } from "vitest";
import { andThen, isPromise } from "./maybe.ts";

describe("andThen", () => {
  test("goes on at once with a value", () => {
    expect(andThen(2, (value) => value + 1)).toBe(3);
  });

  test("goes on when the promise is fulfilled", async () => {
    const result = andThen(Promise.resolve(2), (value) => value + 1);
    expect(isPromise(result)).toBe(true);
    expect(await result).toBe(3);
  });

  test("a failure is thrown in the one case and rejected in the other", async () => {
    const fail = () => {
      throw new Error("next failed");
    };
    expect(() => andThen(1, fail)).toThrow("next failed");
    await expect(andThen(Promise.resolve(1), fail)).rejects.toThrow("next failed");
    let isCalled = false;
    const before = andThen(Promise.reject(new Error("before")), () => {
      isCalled = true;
    });
    await expect(before).rejects.toThrow("before");
    expect(isCalled).toBe(false);
  });
});

test("isPromise takes nothing for a promise but a promise", () => {
  const method = "then";
  const thenable: unknown = Object.fromEntries([[method, () => {}]]);
  const values = [undefined, null, 0, "", {}, thenable];
  expect(values.map(isPromise)).toEqual(values.map(() => false));
});
