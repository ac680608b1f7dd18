/**
 * Values that may be there already: the form of every hot path.
 *
 * A function that usually finishes at once returns `MaybeAsync<T>`: the value itself, or a promise
 * only when it really has to wait. A caller that tests before it awaits pays some nanoseconds on a
 * hit, where an `await` of a ready value costs a turn of the microtask queue.
 */

/** The value, or a promise of it where waiting could not be avoided. */
export type MaybeAsync<T> = T | Promise<T>;

/** True if `value` has to be awaited. Only real promises count: quire makes all of them itself. */
export function isPromise<T>(value: MaybeAsync<T>): value is Promise<T> {
  return value instanceof Promise;
}

/**
 * Goes on with `next` now, or when `value` is there. What `next` throws is thrown or rejected
 * alike.
 */
export function andThen<T, U>(
  value: MaybeAsync<T>,
  next: (value: T) => MaybeAsync<U>,
): MaybeAsync<U> {
  return value instanceof Promise ? value.then(next) : next(value);
}
