"use strict";
// What the page keeps in this browser: settings and the conversation. A browser that keeps nothing is served all the same.
const Store = (() => {
  const read = (name, otherwise) => {
    try {
      return JSON.parse(localStorage.getItem(`cajal.${name}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  };
  const write = (name, value) => {
    try {
      localStorage.setItem(`cajal.${name}`, JSON.stringify(value));
    } catch { /* full or forbidden */ }
  };
  return {read, write};
})();
