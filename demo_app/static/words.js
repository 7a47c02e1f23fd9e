// The format of figures on the whole page.

export const share = (value) => {
  if (value === null || value === undefined) return "-";
  if (value > 0 && value < 0.01) return "< 1 %";
  if (value < 1 && value > 0.99) return "> 99 %";
  return `${Math.round(value * 100)} %`;
};

export const number = (value) => value.toLocaleString("en");

export const rate = (value) => (value === null ? "-" : value.toFixed(value < 10 ? 2 : 1));

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

export const duration = (seconds) => {
  const left = Math.max(0, Math.round(seconds));
  if (left < 120) return `${left} s`;
  if (left < 7200) return `${Math.round(left / 60)} min`;
  return left < 172800 ? `${Math.round(left / 3600)} h` : `${Math.round(left / 86400)} days`;
};

// All data from the server enters the page as text, never as markup.
export const element = (name, text = "", attributes = {}) => {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

export const say = (id, text) => {
  const where = document.getElementById(id);
  if (where.textContent !== text) where.textContent = text; // a live region speaks at every change
};
